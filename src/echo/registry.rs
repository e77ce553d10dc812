//! The open connections of a server or a load generator, watched from outside.
//!
//! Time-outs live here, not in the connections: one sweep now and then looks which of them have moved no byte for too
//! long, and shuts those down, which their own reads and writes then find out. So a message touches no timer, and one
//! rule covers the client that sends nothing, the one that sends half a frame and the one that does not read.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection that is watched.
#[derive(Debug)]
pub struct Watched {
    number: u64,
    writer: OwnedWriteHalf,
    read: AtomicU64,
    written: AtomicU64,
    waits: AtomicBool,
    stopping: AtomicBool,
    stop: Notify,
    quiet: Mutex<Quiet>,
}

/// Since when nothing has moved.
#[derive(Debug)]
struct Quiet {
    moved: u64,
    since: Instant,
    ended: bool,
}

impl Watched {
    /// A connection that nobody watches.
    pub fn alone(writer: OwnedWriteHalf) -> Self {
        Self::new(0, writer)
    }

    fn new(number: u64, writer: OwnedWriteHalf) -> Self {
        Self {
            number,
            writer,
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            waits: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            quiet: Mutex::new(Quiet { moved: 0, since: Instant::now(), ended: false }),
        }
    }

    /// The socket, to write to; its owner reads.
    pub fn stream(&self) -> &TcpStream {
        self.writer.as_ref()
    }

    /// Its number: connections are counted from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Counts bytes read.
    pub fn count_read(&self, bytes: usize) {
        add(&self.read, bytes);
    }

    /// Counts bytes written.
    pub fn count_written(&self, bytes: usize) {
        add(&self.written, bytes);
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether its owner waits for the other side at all. While not, it may be quiet for as long as it likes.
    pub fn set_waiting(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether its owner is to finish what has arrived, and end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits until it is.
    pub async fn stopping(&self) {
        self.stop.notified().await;
    }

    fn ask_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.notify_one();
    }

    /// Whether the sweep has ended it.
    pub fn timed_out(&self) -> bool {
        lock(&self.quiet).ended
    }

    fn moved(&self) -> u64 {
        self.read.load(Ordering::Relaxed) + self.written()
    }

    fn shut(&self, how: Shutdown) {
        // It may have ended by itself: just what was wanted.
        let _ = SockRef::from(self.stream()).shutdown(how);
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Registry {
    open: Mutex<BTreeMap<u64, Arc<Watched>>>,
    last: AtomicU64,
    closing: AtomicBool,
    cut: AtomicBool,
    emptied: Notify,
}

impl Registry {
    /// Takes a connection in.
    pub fn add(&self, writer: OwnedWriteHalf) -> Arc<Watched> {
        let mut open = lock(&self.open);
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let watched = Arc::new(Watched::new(number, writer));
        open.insert(number, Arc::clone(&watched));
        drop(open);
        if self.closing.load(Ordering::SeqCst) {
            watched.ask_to_stop(); // it came too late to be found among the open ones
        }
        watched
    }

    /// Forgets a connection that its owner is done with.
    pub fn remove(&self, watched: &Watched) {
        let mut open = lock(&self.open);
        open.remove(&watched.number);
        if open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        lock(&self.open).len()
    }

    /// Bytes written on the open ones.
    pub fn written(&self) -> u64 {
        lock(&self.open).values().map(|watched| watched.written()).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends, for ever, connections on which no byte has moved for `limit`, up to an eighth of it later.
    pub async fn sweep(&self, limit: Duration) {
        let pause = (limit / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            tokio::time::sleep(pause).await;
            let now = Instant::now();
            let open: Vec<_> = lock(&self.open).values().cloned().collect();
            for watched in open {
                let moved = watched.moved();
                let mut quiet = lock(&watched.quiet);
                if moved != quiet.moved || !watched.waits.load(Ordering::Relaxed) {
                    *quiet = Quiet { moved, since: now, ended: false };
                } else if now.duration_since(quiet.since) >= limit {
                    quiet.ended = true;
                    watched.shut(Shutdown::Both);
                }
            }
        }
    }

    /// Asks the owner of each connection to finish what has arrived, and to end.
    pub fn stop(&self) {
        self.closing.store(true, Ordering::SeqCst);
        lock(&self.open).values().for_each(|watched| watched.ask_to_stop());
    }

    /// Ends them all, whatever is on its way.
    pub fn close_all(&self) {
        self.cut.store(true, Ordering::SeqCst);
        lock(&self.open).values().for_each(|watched| watched.shut(Shutdown::Both));
    }

    /// Whether [`Registry::close_all`] has ended them.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Waits until `count` connections have been taken in since the start, and none of them is open.
    pub async fn wait_ended(&self, count: u64) {
        loop {
            let emptied = self.emptied.notified();
            if self.last.load(Ordering::SeqCst) >= count && self.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

/// Only the owner of a connection counts; others read.
fn add(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
