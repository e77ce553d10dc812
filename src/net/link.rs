//! Messages to and from one peer over a byte stream.
//!
//! A link is one way: each node dials each of its peers, and what it has to say goes out on the connection it dialled.
//! While a link is down its messages are dropped, as a network may; the protocol says again what matters.
//!
//! Who has something to say writes it himself, as far as the peer takes it at once: on the way of every write, to wake a
//! task that does so costs more than it saves. The task of the link writes what is left.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::driver::{Handle, Stopped};
use super::session::Session;
use crate::defaults::{LINK_QUEUE_BYTES, LINK_STANDS, RECONNECT};
use crate::protocol::Protocol;
use crate::wire::envelope::EnvelopeError;
use crate::wire::{Wire, WireError};

/// What waits to be sent to a peer.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    bell: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The peer's connection, while it is up.
    stream: Option<Arc<TcpStream>>,
    session: Session,
    frames: BytesMut,
}

impl Queue {
    /// Sends what the peer takes at once; what stays waits for it.
    fn send(&mut self) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        while !self.frames.is_empty() {
            match stream.try_write(&self.frames) {
                Ok(sent) if sent == self.frames.len() => self.frames.clear(), // and keeps its memory
                Ok(sent) => self.frames.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Outbox {
    /// Queues a message. It is dropped while the link is down, and when the peer is so slow that
    /// [`LINK_QUEUE_BYTES`] wait already.
    pub fn put(&self, message: &impl Wire) {
        let Queue { stream, session, frames } = &mut *self.queue();
        if stream.is_some() && frames.len() < LINK_QUEUE_BYTES {
            session.seal(frames, message);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what is queued, now or as soon as the peer takes it.
    pub fn flush(&self) {
        let mut queue = self.queue();
        if queue.send().is_err() || !queue.frames.is_empty() {
            self.bell.notify_one(); // the task waits until the peer takes more, and finds out by itself what failed
        }
    }

    /// Whether the peer is connected.
    pub fn is_up(&self) -> bool {
        self.queue().stream.is_some()
    }

    /// How many messages were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, stream: Option<Arc<TcpStream>>, session: Session) {
        let mut queue = self.queue();
        (queue.stream, queue.session) = (stream, session);
        queue.frames.clear();
    }

    /// Sends what [`Outbox::flush`] could not, until the stream fails.
    async fn drain_into(&self, stream: &TcpStream) -> io::Result<()> {
        loop {
            tokio::select! {
                () = self.bell.notified() => loop {
                    stream.writable().await?;
                    let mut queue = self.queue();
                    queue.send()?;
                    if queue.frames.is_empty() {
                        break;
                    }
                },
                readable = stream.readable() => {
                    readable?;
                    match stream.try_read(&mut [0]) {
                        // Nothing comes back on a link but its end.
                        Ok(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// Keeps a link to `name` up for ever: connects, sends, and connects again when the stream has failed, each time a
/// little later. Says what is wrong once, not at every attempt, and nothing where `connect` gives no stream: then it has been
/// said, or is nobody's mistake.
pub async fn keep_up<F, E>(name: &str, outbox: &Outbox, connect: impl Fn() -> F)
where
    F: Future<Output = Result<Option<(TcpStream, Session)>, E>>,
    E: std::fmt::Display,
{
    let mut wait = *RECONNECT.start();
    let mut said = String::new();
    loop {
        match connect().await {
            Ok(Some((stream, session))) => {
                let stream = Arc::new(stream);
                outbox.connect(Some(Arc::clone(&stream)), session);
                let ended = stand(name, outbox, &stream, &mut said).await;
                outbox.connect(None, Session::default());
                match ended {
                    Ended::Later(error) => {
                        wait = *RECONNECT.start();
                        tracing::info!("lost the connection to {name}: {error}");
                    }
                    Ended::AtOnce(error) => say(&mut said, || {
                        format!("lost the connection to {name} soon after it was made: {error}; trying again")
                    }),
                }
            }
            Ok(None) => {}
            Err(error) => say(&mut said, || format!("cannot connect to {name}: {error}; trying again")),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(*RECONNECT.end());
    }
}

/// How a link ended.
enum Ended {
    /// A peer that hangs up as soon as it is connected does so again and again.
    AtOnce(io::Error),
    /// After it had stood.
    Later(io::Error),
}

/// Sends until the stream fails. That it is connected is said when it has stood for a while, or at once when nothing was
/// wrong before.
async fn stand(name: &str, outbox: &Outbox, stream: &TcpStream, said: &mut String) -> Ended {
    let mut drained = pin!(outbox.drain_into(stream));
    let was_well = said.is_empty();
    if was_well {
        tracing::info!("connected to {name}");
    }
    match tokio::time::timeout(LINK_STANDS, &mut drained).await {
        Ok(Err(error)) => Ended::AtOnce(error),
        Ok(Ok(())) => Ended::AtOnce(io::ErrorKind::ConnectionReset.into()),
        Err(_) => {
            if !was_well {
                tracing::info!("connected to {name}");
                said.clear();
            }
            Ended::Later(drained.await.err().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
        }
    }
}

fn say(said: &mut String, what: impl FnOnce() -> String) {
    let what = what();
    if *said != what {
        tracing::warn!("{what}");
        *said = what;
    }
}

/// Why a peer's stream is not read on.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a frame.
    #[error("{0}")]
    Frame(#[from] EnvelopeError),
    /// Not a message.
    #[error("not a message: {0}")]
    Message(#[from] WireError),
    /// This node is stopping.
    #[error("{0}")]
    Stopped(#[from] Stopped),
}

/// Hands `from`'s messages to the driver until the stream ends.
///
/// # Errors
/// When the stream fails or holds what is no message: whoever sent that is not understood, and is hung up on.
pub async fn receive<P>(
    from: P::Peer,
    (mut stream, mut session): (impl AsyncRead + Unpin, Session),
    handle: &Handle<P>,
) -> Result<(), ReceiveError>
where
    P: Protocol<Message: Wire>,
{
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        while let Some(content) = session.open(&mut buffer)? {
            handle.received(from, P::Message::decode(content)?).await?;
        }
        buffer.reserve(16 << 10);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// A dead peer is noticed within about this time by the keep-alive of TCP.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
