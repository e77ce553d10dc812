//! Lines on their way to stdout or a file, written by a thread of their own: while a disk or a reader stalls, datagrams
//! are still taken from the kernel, whose buffer is small.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::defaults::UDP_QUEUE_BYTES;
use crate::threads;

/// The thread that writes, and the queue before it.
#[derive(Debug)]
pub(super) struct Writer {
    chunks: mpsc::UnboundedSender<(Vec<u8>, OwnedSemaphorePermit)>,
    /// A permit a byte: what bounds the queue.
    room: Arc<Semaphore>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (chunks, mut queue) = mpsc::unbounded_channel::<(Vec<u8>, OwnedSemaphorePermit)>();
        let room = Arc::new(Semaphore::new(UDP_QUEUE_BYTES));
        let (end, ended) = oneshot::channel();
        let space = Arc::clone(&room);
        threads::spawn("writer", move || {
            let mut write = || {
                while let Some((chunk, _room)) = queue.blocking_recv() {
                    out.write_all(&chunk)?;
                    out.flush()?;
                }
                Ok(())
            };
            let result = write();
            space.close();
            let _ = end.send(result); // nobody is left to hear it when the process ends
        })?;
        Ok(Self { chunks, room, ended })
    }

    /// Queues these lines, once there is room; leaves `lines` empty. Cancelling it queues none. After the thread has failed,
    /// it drops them.
    pub(super) async fn write(&self, lines: &mut Vec<u8>) {
        // More than the whole queue takes the whole queue.
        let size = lines.len().min(UDP_QUEUE_BYTES) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        let lines = std::mem::take(lines);
        if let Ok(room) = room {
            let _ = self.chunks.send((lines, room)); // `failed` tells
        }
    }

    /// Waits until the thread has failed.
    pub(super) async fn failed(&self) {
        self.chunks.closed().await;
    }

    /// Waits until all is written; tells what went wrong.
    pub(super) async fn finish(self) -> io::Result<()> {
        drop(self.chunks);
        self.ended.await.unwrap_or_else(|_| Err(io::Error::other("the writing thread is gone")))
    }
}
