//! How a machine's messages leave: what a driver asks of the network.

use crate::protocol::Protocol;

/// Carries the messages of one machine. It never waits: a message that cannot go is dropped, as a network may.
pub trait Transport<P: Protocol> {
    /// Queues a message for a peer, or sends it.
    fn put(&mut self, to: P::Peer, message: &P::Message);

    /// Sends what is queued: after the last of several messages.
    fn flush(&mut self);
}
