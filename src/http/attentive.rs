//! The connection of somebody who watches: it notices that he has left, and it can be broken off.
//!
//! A client may close its half of a connection and wait for the answer, so hyper does not look for that end while it answers.
//! Someone who watches for changes would hold his place until there are some.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::teller::Spent;
use crate::defaults::WATCH_SEND_BUFFER;

/// The place of somebody who watches. His connection holds it for as long as it lives: till then it takes memory.
#[derive(Debug)]
pub(super) struct Place {
    cut: CancellationToken,
    spent: Spent,
    _slot: OwnedSemaphorePermit,
}

impl Place {
    /// A place until `cut`; what its connection costs is added to `spent`.
    pub(super) const fn new(cut: CancellationToken, spent: Spent, slot: OwnedSemaphorePermit) -> Self {
        Self { cut, spent, _slot: slot }
    }
}

/// Whether a connection is that of somebody who watches. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Attention(Arc<OnceLock<Arc<Place>>>);

impl Attention {
    /// It is, from now on: events are the last answer on a connection.
    pub(super) fn pay(&self, place: Arc<Place>) {
        let _ = self.0.set(place);
    }

    fn place(&self) -> Option<&Place> {
        self.0.get().map(|place| &**place)
    }

    /// Waits for the end of `connection`, or until it is to be broken off: then None.
    pub(super) async fn attend<T>(&self, mut connection: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut cut = None;
        std::future::poll_fn(|context| {
            let begun = self.place().map(|place| (place, Instant::now()));
            let polled = connection.as_mut().poll(context);
            if let Some((place, begun)) = begun {
                place.spent.add(begun.elapsed());
            }
            if let (Poll::Pending, Some(place)) = (&polled, self.place()) {
                let cut = cut.get_or_insert_with(|| Box::pin(place.cut.clone().cancelled_owned()));
                if cut.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
            }
            polled.map(Some)
        })
        .await
    }
}

/// A TCP stream that cannot be flushed any more once the other side has closed its half, while it pays attention. Hyper
/// flushes whenever it is woken, and this wakes it.
#[derive(Debug)]
pub(super) struct Attentive {
    stream: TcpStream,
    attention: Attention,
    is_bounded: bool,
}

impl Attentive {
    pub(super) const fn new(stream: TcpStream, attention: Attention) -> Self {
        Self { stream, attention, is_bounded: false }
    }

    /// What the kernel keeps for somebody who watches is memory, too.
    fn bound(&mut self) {
        if !self.is_bounded && self.attention.place().is_some() {
            self.is_bounded = true;
            if let Err(error) = SockRef::from(&self.stream).set_send_buffer_size(WATCH_SEND_BUFFER) {
                tracing::debug!("cannot bound what is kept for a watcher: {error}");
            }
        }
    }
}

impl Drop for Attentive {
    fn drop(&mut self) {
        if self.attention.place().is_some_and(|place| place.cut.is_cancelled()) {
            // Who was cut took nothing for long: the kernel would keep it for longer.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Attentive {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Attentive {
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
        if self.attention.place().is_some()
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
