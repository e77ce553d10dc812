//! A client: sends messages and gives what comes back.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::error::Elapsed;

use crate::defaults::{ECHO_READ, LINGER};
use crate::wire::frame::{FrameError, Framing, Scanner};

/// Why less came back than was sent.
#[derive(Debug, Error)]
pub enum EchoError {
    /// The server closed.
    #[error("the connection was closed after {received} of {sent} {unit} had come back{}", because(.source.as_ref()))]
    Closed {
        /// What has come back.
        received: u64,
        /// What was sent.
        sent: u64,
        /// Of what.
        unit: &'static str,
        /// How it broke, if it did.
        source: Option<io::Error>,
    },
    /// Nothing came for too long.
    #[error("nothing came back for {} ({received} of {sent} {unit} so far)", humantime::format_duration(*.after))]
    TimedOut {
        /// What has come back.
        received: u64,
        /// What was sent.
        sent: u64,
        /// Of what.
        unit: &'static str,
        /// How long it waited.
        after: Duration,
    },
    /// What came back are no frames.
    #[error("{0} came back")]
    Frame(#[from] FrameError),
}

fn because(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |source| format!(" ({source})"))
}

/// A connection to an echo server.
#[derive(Debug)]
pub struct Client {
    framing: Framing,
    timeout: Duration,
    input: Input,
    output: OwnedWriteHalf,
    sent: Cell<Sum>,
}

/// The half that reads.
#[derive(Debug)]
struct Input {
    stream: OwnedReadHalf,
    scanner: Scanner,
    arrived: BytesMut,
    received: Sum,
}

/// How much of a stream there was, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes on the wire.
    pub bytes: u64,
    /// Frames; in a raw stream, reads.
    pub frames: u64,
    /// CRC-32C of the bytes.
    pub crc: u32,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }

    /// What a server owes: bytes of a raw stream, else frames.
    const fn owed(&self, framing: Framing) -> u64 {
        match framing {
            Framing::Raw => self.bytes,
            Framing::Lines | Framing::Length => self.frames,
        }
    }
}

impl Input {
    /// The payload of the next frame; nothing when the server has closed between two frames. A line without an end that
    /// comes last is a frame.
    async fn next(&mut self, framing: Framing) -> Result<Option<Bytes>, ReadError> {
        loop {
            if let Some(len) = self.scanner.first(&self.arrived)? {
                let frame = self.arrived.split_to(len).freeze();
                self.received.add(&frame);
                self.received.frames += 1;
                let payload = framing.payload(&frame);
                return Ok(Some(frame.slice_ref(payload)));
            }
            self.arrived.reserve(ECHO_READ);
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                let rest = self.arrived.split().freeze();
                self.received.add(&rest);
                self.scanner = self.scanner.anew();
                return Ok((framing == Framing::Lines && !rest.is_empty()).then_some(rest));
            }
        }
    }
}

#[derive(Debug, Error)]
enum ReadError {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Client {
    /// A client on this connection. Frames that come back may have up to `max_frame` bytes, and something must come back
    /// within each `timeout` in which something is owed.
    pub fn new(stream: TcpStream, framing: Framing, max_frame: usize, timeout: Duration) -> Self {
        let (input, output) = stream.into_split();
        let scanner = Scanner::new(framing, max_frame);
        let input = Input { stream: input, scanner, arrived: BytesMut::new(), received: Sum::default() };
        Self { framing, timeout, input, output, sent: Cell::default() }
    }

    /// What was sent.
    pub const fn sent(&self) -> Sum {
        self.sent.get()
    }

    /// What has come back.
    pub const fn received(&self) -> Sum {
        self.input.received
    }

    /// Sends one message and gives what comes back until as much has come back as was sent. After the `last` one it closes
    /// its half of the connection, so that a server which waits for the rest of a line knows that there is none.
    ///
    /// # Errors
    /// When less comes back.
    pub async fn ask(&mut self, message: &[u8], last: bool) -> Result<Bytes, EchoError> {
        let Self { framing, timeout, input, output, sent } = self;
        let mut frame = BytesMut::new();
        framing.put(&mut frame, message);
        let sent = sent.get_mut();
        sent.add(&frame);
        sent.frames += 1;
        let before = input.received.owed(*framing);
        let owed = before + if *framing == Framing::Raw { frame.len() as u64 } else { 1 };
        let write = async {
            // That the server has gone, reading tells as well.
            if output.write_all(&frame).await.is_ok() && last {
                let _ = output.shutdown().await;
            }
            Ok::<(), EchoError>(())
        };
        let read = async {
            let mut reply = BytesMut::new();
            // Counted from here: a greeting is no answer to what was not sent yet.
            while input.received.owed(*framing) < owed {
                let came = tokio::time::timeout(*timeout, input.next(*framing)).await;
                reply.extend_from_slice(&explain(came, *framing, *timeout, input.received, *sent)?);
            }
            Ok(reply.freeze())
        };
        let (reply, ()) = tokio::try_join!(read, write)?;
        Ok(reply)
    }

    /// Sends what comes through `messages` (whole frames, or any part of a stream of lines or raw bytes) and hands each
    /// payload that comes back to `reply`, until `messages` has ended and the server closes.
    ///
    /// # Errors
    /// When less comes back than was sent, or with what `reply` fails by.
    pub async fn stream<E: From<EchoError>>(
        &mut self,
        mut messages: mpsc::Receiver<Bytes>,
        mut reply: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { framing, timeout, input, output, sent } = self;
        let (framing, timeout) = (*framing, *timeout);
        let (sent, ended, progress) = (&*sent, Cell::new(false), Notify::new());
        let write = async {
            while let Some(bytes) = messages.recv().await {
                let mut sum = sent.get();
                sum.add(&bytes);
                sum.frames += match framing {
                    Framing::Lines => memchr::memchr_iter(b'\n', &bytes).count() as u64,
                    Framing::Raw | Framing::Length => 1,
                };
                sent.set(sum);
                progress.notify_one();
                if output.write_all(&bytes).await.is_err() {
                    break; // that the server has gone, reading tells as well
                }
            }
            ended.set(true);
            progress.notify_one();
            let _ = output.shutdown().await;
            std::future::pending::<Infallible>().await
        };
        let read = async {
            loop {
                let came = tokio::time::timeout(timeout, input.next(framing)).await;
                let nothing_owed = input.received.owed(framing) >= sent.get().owed(framing);
                match came {
                    Err(_) if nothing_owed && ended.get() => return Ok(()), // a server that does not close
                    Err(_) if nothing_owed => continue,                     // whoever types may take time
                    Ok(Ok(None) | Err(ReadError::Io(_))) if nothing_owed => {
                        // What comes through `messages` now is owed, and will not come: that, or their end, may take time.
                        if ended.get() || tokio::time::timeout(LINGER, progress.notified()).await.is_err() {
                            return Ok(());
                        }
                    }
                    came => reply(explain(came, framing, timeout, input.received, sent.get())?)?,
                }
            }
        };
        tokio::select! {
            result = read => result,
            never = write => match never {},
        }
    }
}

/// What came, or why nothing did although it is owed.
fn explain(
    came: Result<Result<Option<Bytes>, ReadError>, Elapsed>,
    framing: Framing,
    after: Duration,
    received: Sum,
    sent: Sum,
) -> Result<Bytes, EchoError> {
    let (received, sent) = (received.owed(framing), sent.owed(framing));
    let unit = match framing {
        Framing::Raw => "bytes",
        Framing::Lines => "lines",
        Framing::Length => "frames",
    };
    match came {
        Ok(Ok(Some(payload))) => Ok(payload),
        Ok(Ok(None)) => Err(EchoError::Closed { received, sent, unit, source: None }),
        Ok(Err(ReadError::Io(error))) => Err(EchoError::Closed { received, sent, unit, source: Some(error) }),
        Ok(Err(ReadError::Frame(error))) => Err(error.into()),
        Err(_) => Err(EchoError::TimedOut { received, sent, unit, after }),
    }
}
