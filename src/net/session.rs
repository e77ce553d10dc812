//! What stands between a message and the stream of a link: an envelope, and nothing else.
//!
//! Here is the place of a session that is more than plain: one that proves with a key who speaks, or encrypts. It is made together
//! with the connection, by the `connect` of [`keep_up`](super::link::keep_up) at one end and by whoever calls
//! [`receive`](super::link::receive) at the other, keeps its keys and counters for one direction, and does its work in these two
//! functions: all that is ever sent goes through the one, and all that is received through the other.

use bytes::{Bytes, BytesMut};

use crate::defaults::MAX_FRAME_BYTES;
use crate::wire::Wire;
use crate::wire::envelope::{self, EnvelopeError};

/// Appends a message as it leaves.
pub(super) fn seal(frames: &mut BytesMut, message: &impl Wire) {
    envelope::put(frames, |out| message.encode(out));
}

/// Takes the first message's bytes off the front of what has arrived, once all of it is there.
///
/// # Errors
/// After an error there are no more: the stream is hung up on.
pub(super) fn open(arrived: &mut BytesMut) -> Result<Option<Bytes>, EnvelopeError> {
    envelope::take(arrived, MAX_FRAME_BYTES)
}
