//! One single-threaded runtime a core: a connection lives on one of them, so that its bytes cross no thread and nothing is
//! locked for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::threads;

/// Threads with a runtime each; the first is the one that started the others.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    load: Arc<AtomicUsize>,
    remote: Option<Remote>,
}

#[derive(Debug)]
struct Remote {
    runtime: Handle,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Workers {
    /// The current runtime, and threads called `name` for the others.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut workers = vec![Worker { load: Arc::default(), remote: None }];
        for number in 1..count {
            let stop = CancellationToken::new();
            let stopped = stop.clone();
            let run = move |runtime: &Runtime| runtime.block_on(stopped.cancelled());
            let (handle, thread) = threads::with_runtime(&format!("{name}-{number}"), run)?;
            workers.push(Worker { load: Arc::default(), remote: Some(Remote { runtime: handle, stop, thread }) });
        }
        Ok(Self(workers))
    }

    /// Tasks that run.
    pub fn load(&self) -> usize {
        self.0.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }

    fn least(&self) -> &Worker {
        self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)).expect("there is one")
    }

    /// Runs a task on the worker that has fewest.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let worker = self.least();
        let busy = Busy::on(&worker.load);
        let task = async move {
            task.await;
            drop(busy);
        };
        drop(match &worker.remote {
            None => tokio::spawn(task),
            Some(remote) => remote.runtime.spawn(task),
        });
    }

    /// Runs what `serve` makes of a connection on the worker that has fewest. It is given an error when the connection
    /// cannot move there.
    pub fn give<F: Future<Output = ()> + Send + 'static>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(io::Result<TcpStream>) -> F + Send + 'static,
    ) {
        if self.least().remote.is_none() {
            return self.spawn(serve(Ok(stream)));
        }
        // A socket is registered with the runtime it was made in: it leaves that one, and the other takes it.
        let stream = stream.into_std();
        self.spawn(async move { serve(stream.and_then(TcpStream::from_std)).await });
    }

    /// Ends the threads, and with them the tasks that still run there.
    pub fn end(self) {
        for remote in self.0.into_iter().filter_map(|worker| worker.remote) {
            remote.stop.cancel();
            drop(remote.thread.join()); // a panic in it has been reported
        }
    }
}

/// A task counts while this lives.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
