//! One connection of the server.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::io::ioctl_fionread;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use super::registry::Watched;
use crate::defaults::{ECHO_READ, LINGER, MAX_HELD};
use crate::wire::frame::{FrameError, Framing, Scanner};

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("closed in the middle of a frame, after {0} bytes of it")]
    HalfFrame(usize),
    #[error("{MAX_HELD} bytes wait already for the rest of their frames, or for clients that do not read; try later")]
    Full,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How a connection ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The client closed.
    Closed,
    /// The server stops.
    Stopped,
}

/// Bytes that all connections of a server hold together: bounded, so that clients which send half a frame each, or do
/// not read, cannot take all memory.
#[derive(Debug, Default)]
pub(super) struct Held(AtomicUsize);

thread_local! {
    /// Where every connection of this thread reads to. Only what cannot leave at once is copied from here.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; ECHO_READ]);
}

/// Echoes whole frames until the client closes; then what is left of a line without an end, too.
pub(super) struct Echo<'a> {
    input: &'a mut OwnedReadHalf,
    watched: &'a Watched,
    framing: Framing,
    scanner: Scanner,
    /// What has come and could not leave yet: whole frames, then the start of the next one.
    waiting: BytesMut,
    /// So many bytes of it are whole frames.
    due: usize,
    held: &'a Held,
    counted: usize,
    /// Frames echoed.
    pub(super) frames: u64,
}

impl<'a> Echo<'a> {
    pub(super) fn new(
        input: &'a mut OwnedReadHalf,
        watched: &'a Watched,
        framing: Framing,
        max_frame: usize,
        held: &'a Held,
    ) -> Self {
        Self {
            input,
            watched,
            framing,
            scanner: Scanner::new(framing, max_frame),
            waiting: BytesMut::new(),
            due: 0,
            held,
            counted: 0,
            frames: 0,
        }
    }

    /// Runs until the client closes, or the server stops: then to the end of what has arrived by that time.
    pub(super) async fn run(&mut self) -> Result<Done, Broken> {
        let watched = self.watched;
        let mut stopping = pin!(watched.stopping());
        let mut left = None::<u64>; // bytes to read yet, once the server stops
        while left != Some(0) {
            let turn = poll_fn(|cx| match self.poll_read(cx) {
                Poll::Pending if left.is_none() => stopping.as_mut().poll(cx).map(|()| Ok(None)),
                read => read.map(|read| read.map(Some)),
            });
            let read = turn.await?;
            if read == Some(0) {
                return self.finish().await.map(|()| Done::Closed);
            }
            // A client that does not read is not read from.
            self.flush().await?;
            if !self.waiting.is_empty() {
                self.scanner.first(&self.waiting)?; // what follows a whole frame may be too large
            }
            left = match left {
                Some(left) => Some(left.saturating_sub(read.unwrap_or_default() as u64)),
                None if watched.is_stopping() => Some(ioctl_fionread(watched.stream()).map_err(io::Error::from)?),
                None => None,
            };
        }
        Ok(Done::Stopped)
    }

    /// The client sends no more: a line without an end is a line.
    async fn finish(&mut self) -> Result<(), Broken> {
        match self.framing {
            Framing::Raw | Framing::Lines => {
                self.due = self.waiting.len();
                self.frames += u64::from(self.due > 0);
                self.flush().await
            }
            Framing::Length if self.waiting.is_empty() => Ok(()),
            Framing::Length => Err(Broken::HalfFrame(self.waiting.len())),
        }
    }

    /// Reads what is there and writes, at once, as much as can be. Gives the number of bytes read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *self.input).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            self.watched.count_read(read.len());
            self.take_in(read)?;
            Poll::Ready(Ok(read.len()))
        })
    }

    fn take_in(&mut self, read: &[u8]) -> Result<(), Broken> {
        if self.waiting.is_empty() {
            let (whole, frames) = self.scanner.whole(read)?;
            self.frames += frames;
            let sent = write(self.watched, &read[..whole])?;
            self.waiting.extend_from_slice(&read[sent..]);
            self.due = whole - sent;
        } else {
            self.waiting.extend_from_slice(read);
            let (whole, frames) = self.scanner.whole(&self.waiting)?;
            self.frames += frames;
            self.due = whole;
            self.write_due()?;
        }
        self.settle()
    }

    /// Waits until all that is due has been written.
    async fn flush(&mut self) -> Result<(), Broken> {
        while self.due > 0 {
            self.watched.stream().writable().await?;
            self.write_due()?;
            self.settle()?;
        }
        Ok(())
    }

    fn write_due(&mut self) -> io::Result<()> {
        let sent = write(self.watched, &self.waiting[..self.due])?;
        self.waiting.advance(sent);
        self.due -= sent;
        Ok(())
    }

    /// Counts what this connection holds; with nothing waiting it gives its memory back.
    fn settle(&mut self) -> Result<(), Broken> {
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = BytesMut::new();
        }
        let before = std::mem::replace(&mut self.counted, self.waiting.len());
        if self.counted == before {
            return Ok(());
        }
        self.held.0.fetch_sub(before, Ordering::Relaxed);
        let others = self.held.0.fetch_add(self.counted, Ordering::Relaxed);
        if self.counted > before && others + self.counted > MAX_HELD { Err(Broken::Full) } else { Ok(()) }
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Writes as much as the socket takes now.
fn write(watched: &Watched, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match watched.stream().try_write(bytes) {
        Ok(sent) => {
            watched.count_written(sent);
            Ok(sent)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Writes all of it.
pub(super) async fn send(watched: &Watched, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        watched.stream().writable().await?;
        bytes = &bytes[write(watched, bytes)?..];
    }
    Ok(())
}

/// Says `last`, then hangs up so that the client gets to read it: to close with something unread would take it back.
pub(super) async fn hang_up(input: &mut OwnedReadHalf, watched: &Watched, last: &[u8]) {
    let gone = async {
        send(watched, last).await?;
        SockRef::from(watched.stream()).shutdown(Shutdown::Write)?;
        let mut unread = vec![0; 4096]; // on the heap: a task is as large as the largest of its steps
        while input.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, gone).await; // whoever does not close is closed
}
