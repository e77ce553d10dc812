//! The connection of somebody who watches: it notices that he has left, and it can be broken off.
//!
//! A client may close its half of a connection and wait for the answer, so hyper does not look for that end while it answers.
//! Someone who watches for changes would hold his place until there are some.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::defaults::WATCH_SEND_BUFFER;

/// The time that telling has taken since somebody asked last.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(Arc<AtomicU64>);

impl Spent {
    /// So much more.
    pub(super) fn add(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// All of it until now, once.
    pub(super) fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

/// The place of somebody who watches: an extension of the answer. His connection holds it for as long as it lives: till then it takes memory.
#[derive(Debug)]
pub(super) struct StreamSlot {
    cut: CancellationToken,
    spent: Spent,
    _slot: OwnedSemaphorePermit,
}

impl StreamSlot {
    /// A place until `cut`; what its connection costs is added to `spent`.
    pub(super) const fn new(cut: CancellationToken, spent: Spent, slot: OwnedSemaphorePermit) -> Self {
        Self { cut, spent, _slot: slot }
    }
}

/// Whether the answer on a connection is a stream of events. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct EventStream(Arc<OnceLock<Arc<StreamSlot>>>);

impl EventStream {
    /// It is, from now on: events are the last answer on a connection.
    pub(super) fn begin(&self, slot: Arc<StreamSlot>) {
        let _ = self.0.set(slot);
    }

    fn slot(&self) -> Option<&StreamSlot> {
        self.0.get().map(|slot| &**slot)
    }

    /// Waits for the end of `connection`, or until it is to be broken off: then None.
    pub(super) async fn run<T>(&self, mut connection: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut cut = None;
        std::future::poll_fn(|context| {
            let begun = self.slot().map(|slot| (slot, Instant::now()));
            let polled = connection.as_mut().poll(context);
            if let Some((slot, begun)) = begun {
                slot.spent.add(begun.elapsed());
            }
            if let (Poll::Pending, Some(slot)) = (&polled, self.slot()) {
                let cut = cut.get_or_insert_with(|| Box::pin(slot.cut.clone().cancelled_owned()));
                if cut.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
            }
            polled.map(Some)
        })
        .await
    }
}

/// A TCP stream that cannot be flushed any more once the other side has closed its half, while events are sent on it. Hyper
/// flushes whenever it is woken, and this wakes it.
#[derive(Debug)]
pub(super) struct HangupAware {
    stream: TcpStream,
    events: EventStream,
    is_bounded: bool,
}

impl HangupAware {
    pub(super) const fn new(stream: TcpStream, events: EventStream) -> Self {
        Self { stream, events, is_bounded: false }
    }

    /// What the kernel keeps for somebody who watches is memory, too.
    fn bound(&mut self) {
        if !self.is_bounded && self.events.slot().is_some() {
            self.is_bounded = true;
            if let Err(error) = SockRef::from(&self.stream).set_send_buffer_size(WATCH_SEND_BUFFER) {
                tracing::debug!("cannot bound what is kept for a watcher: {error}");
            }
        }
    }
}

impl Drop for HangupAware {
    fn drop(&mut self) {
        if self.events.slot().is_some_and(|slot| slot.cut.is_cancelled()) {
            // Who was cut took nothing for long: the kernel would keep it for longer.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for HangupAware {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for HangupAware {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bound();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.events.slot().is_some()
            && let Poll::Ready(0) = self.stream.poll_peek(context, &mut ReadBuf::new(&mut [0]))?
        {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
