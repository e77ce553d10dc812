//! Work beside the log, without haste.
//!
//! A disk that is told to make a frame durable makes all durable that it has been given, and may discard what files that are
//! removed took: a whole segment of zeros takes it some 20 ms, and so do a few removed segments. So what can wait is done a
//! piece at a time, with pauses, until somebody waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::threads;

/// A thread that does such work. Dropped, it is waited for, lest it go on in a directory that the log has let go of.
#[derive(Debug)]
pub(super) struct Background<T> {
    haste: Haste,
    /// `None` once the outcome was taken.
    thread: Option<JoinHandle<T>>,
}

/// Whether somebody waits for the work.
#[derive(Clone, Debug, Default)]
pub(super) struct Haste(Arc<AtomicBool>);

impl Haste {
    /// Between two pieces of the work.
    pub(super) fn pause(&self, length: Duration) {
        if !self.0.load(Ordering::Relaxed) {
            thread::park_timeout(length);
        }
    }
}

impl<T: Send + 'static> Background<T> {
    /// Starts the work; fails only if the system has no thread to give.
    pub(super) fn start(name: &str, work: impl FnOnce(&Haste) -> T + Send + 'static) -> io::Result<Self> {
        let haste = Haste::default();
        let thread = threads::spawn(name, {
            let haste = haste.clone();
            move || work(&haste)
        })?;
        Ok(Self { haste, thread: Some(thread) })
    }

    /// Waits for the outcome.
    pub(super) fn finish(mut self) -> T {
        let thread = self.hurry().expect("taken here and in drop only");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Whether there would be nothing to wait for.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Background<T> {
    fn hurry(&mut self) -> Option<JoinHandle<T>> {
        self.haste.0.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        Some(thread)
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if let Some(thread) = self.hurry() {
            let _ = thread.join();
        }
    }
}
