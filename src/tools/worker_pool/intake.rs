//! How far reading has come, as all may see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::cli::Failure;

/// How far reading has come.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) submitted: AtomicU64,
    pub(super) skipped: AtomicU64,
    /// How many of those had failed.
    pub(super) skipped_failed: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Intake {
    /// How many jobs were read.
    pub(super) fn read(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed) + self.skipped.load(Ordering::Relaxed)
    }

    /// Why reading ended early.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Failure::local)
    }
    /// Reading ended early.
    pub(super) fn fail(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}
