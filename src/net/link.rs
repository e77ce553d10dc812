//! Messages to and from one peer over a byte stream.
//!
//! A link is one way: each node dials each of its peers, and what it has to say goes out on the connection it dialled.
//! While a link is down its messages are dropped, as a network may; the protocol says again what matters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::driver::{Handle, Stopped};
use crate::defaults::{LINK_QUEUE_BYTES, MAX_FRAME_BYTES, RECONNECT};
use crate::protocol::Protocol;
use crate::wire::envelope::{self, EnvelopeError};
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
    up: bool,
    frames: BytesMut,
}

impl Outbox {
    /// Queues a message. It is dropped while the link is down, and when the peer is so slow that
    /// [`LINK_QUEUE_BYTES`] wait already.
    pub fn put(&self, message: &impl Wire) {
        let mut queue = self.queue();
        if queue.up && queue.frames.len() < LINK_QUEUE_BYTES {
            envelope::put(&mut queue.frames, |out| message.encode(out));
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the sender, if there is something to send.
    pub fn ring(&self) {
        if !self.queue().frames.is_empty() {
            self.bell.notify_one();
        }
    }

    /// Whether the peer is connected.
    pub fn is_up(&self) -> bool {
        self.queue().up
    }

    /// How many messages were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_up(&self, up: bool) {
        let mut queue = self.queue();
        queue.up = up;
        queue.frames.clear();
    }

    /// Sends what is queued until the stream fails. The empty buffer given back keeps its memory.
    async fn drain_into(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
        let mut frames = BytesMut::new();
        let mut nothing = [0];
        loop {
            std::mem::swap(&mut self.queue().frames, &mut frames);
            if !frames.is_empty() {
                stream.write_all(&frames).await?;
                frames.clear();
                continue;
            }
            tokio::select! {
                () = self.bell.notified() => {}
                // Nothing comes back on a link but its end.
                read = stream.read(&mut nothing) => {
                    read?;
                    return Err(std::io::ErrorKind::ConnectionReset.into());
                }
            }
        }
    }
}

/// Keeps a link to `name` up for ever: connects, sends, and connects again when the stream has failed, each time a
/// little later. Says what is wrong once, not at every attempt.
pub async fn keep_up<F, S, E>(name: &str, outbox: &Outbox, connect: impl Fn() -> F)
where
    F: Future<Output = Result<S, E>>,
    S: AsyncRead + AsyncWrite + Unpin,
    E: std::fmt::Display,
{
    let mut wait = *RECONNECT.start();
    let mut said = String::new();
    loop {
        match connect().await {
            Ok(mut stream) => {
                tracing::info!("connected to {name}");
                (wait, said) = (*RECONNECT.start(), String::new());
                outbox.set_up(true);
                let ended = outbox.drain_into(&mut stream).await;
                outbox.set_up(false);
                if let Err(error) = ended {
                    tracing::info!("lost the connection to {name}: {error}");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::warn!("cannot connect to {name}: {error}; trying again");
                    said = error;
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(*RECONNECT.end());
    }
}

/// Why a peer's stream is not read on.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
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
    mut stream: impl AsyncRead + Unpin,
    handle: &Handle<P>,
) -> Result<(), ReceiveError>
where
    P: Protocol<Message: Wire>,
{
    let mut buffer = BytesMut::with_capacity(64 << 10);
    loop {
        while let Some(content) = envelope::take(&mut buffer, MAX_FRAME_BYTES)? {
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
