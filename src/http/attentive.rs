//! A connection that notices, while events go out on it, that the client has left.
//!
//! A client may close its half of a connection and wait for the answer, so hyper does not look for that end while it answers.
//! Someone who watches for changes would hold his place until there are some.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whether a connection is to look. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Attention(Arc<AtomicBool>);

impl Attention {
    /// From now on, or no longer.
    pub(super) fn set(&self, attentive: bool) {
        self.0.store(attentive, Ordering::Relaxed);
    }
}

/// A TCP stream that cannot be flushed any more once the other side has closed its half, while it pays attention. Hyper
/// flushes whenever it is woken, and this wakes it.
#[derive(Debug)]
pub(super) struct Attentive {
    stream: TcpStream,
    attention: Attention,
}

impl Attentive {
    pub(super) const fn new(stream: TcpStream, attention: Attention) -> Self {
        Self { stream, attention }
    }
}

impl AsyncRead for Attentive {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Attentive {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.attention.0.load(Ordering::Relaxed)
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
