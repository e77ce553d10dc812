//! What stands between a message and the stream of a link: an envelope, and nothing else.
//!
//! Here is the place of a session that is more than plain: one that proves with a key who speaks, or encrypts. It is made together
//! with the connection, by the `connect` of [`keep_up`](super::link::keep_up) at one end and by whoever calls
//! [`receive`](super::link::receive) at the other, keeps its keys and counters for one direction, and does its work in its two
//! functions: all that is ever sent goes through the one, and all that is received through the other.

use bytes::{Bytes, BytesMut};

use crate::defaults::MAX_FRAME_BYTES;
use crate::wire::Wire;
use crate::wire::envelope::{self, EnvelopeError};

/// One direction of a connection between peers.
#[derive(Debug, Default)]
pub enum Session {
    /// Whoever is on the way may read and write.
    #[default]
    Plain,
}

impl Session {
    /// Appends a message as it leaves.
    pub(super) fn seal(&mut self, frames: &mut BytesMut, message: &impl Wire) {
        match self {
            Self::Plain => envelope::put(frames, |out| message.encode(out)),
        }
    }

    /// Takes the first message's bytes off the front of what has arrived, once all of it is there.
    ///
    /// # Errors
    /// After an error there are no more: the stream is hung up on.
    pub(super) fn open(&mut self, arrived: &mut BytesMut) -> Result<Option<Bytes>, EnvelopeError> {
        match self {
            Self::Plain => envelope::take(arrived, MAX_FRAME_BYTES),
        }
    }
}
