//! The smallest protocol that is one: every node has a number, and all come to know the largest.
//!
//! Anti-entropy by push and pull (Demers et al. 1987, "Epidemic algorithms for replicated database maintenance", §1.3):
//! once a period a node tells its number to one other, drawn at random; who has a larger one says so. There is no disk: a
//! node that starts again begins at zero, and is told the rest.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use netbelt::protocol::{Effects, Input, NoRecord, Protocol, Time};
use netbelt::wire::{Wire, WireError, at_end};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How long a node waits before it tells another one.
const PERIOD: RangeInclusive<Duration> = Duration::from_millis(80)..=Duration::from_millis(120);

/// A node.
pub(crate) type Gossip = Node<NO_BUG>;

/// Which bug is put in: a checker that finds nothing proves nothing.
pub(crate) const NO_BUG: u8 = 0;
/// Forgets what it knows when it hears a smaller number.
pub(crate) const FALLS: u8 = 1;
/// Tells others a number that nobody was told.
pub(crate) const INVENTS: u8 = 2;
/// Tells others nothing.
pub(crate) const SILENT: u8 = 3;

/// A node, the real one or one with a bug.
#[derive(Clone, Debug)]
pub(crate) struct Node<const BUG: u8> {
    others: Vec<SocketAddr>,
    largest: u64,
    rng: ChaCha8Rng,
}

/// What nodes say to each other: the largest number that the sender knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Largest(pub(crate) u64);

/// What the application asks: that nobody's number be smaller than this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raise(pub(crate) u64);

/// What the application is told: the number is larger now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raised(pub(crate) u64);

/// The next one is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tell;

impl<const BUG: u8> Node<BUG> {
    /// A node that knows these others; `seed` decides in what order it tells them.
    pub(crate) fn new(others: impl IntoIterator<Item = SocketAddr>, seed: u64) -> Self {
        Self { others: others.into_iter().collect(), largest: 0, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The largest number it knows.
    pub(crate) const fn largest(&self) -> u64 {
        self.largest
    }

    fn raise(&mut self, to: u64, out: &mut Effects<Self>) {
        if to > self.largest {
            self.largest = to;
            out.emit(Raised(to));
        }
    }

    fn tell_one(&mut self, out: &mut Effects<Self>) {
        if let Some(count) = u64::try_from(self.others.len()).ok().filter(|count| *count > 0) {
            let one = self.others[(self.rng.next_u64() % count) as usize];
            self.tell(one, out);
        }
        out.set_timer(Tell, PERIOD);
    }

    fn tell(&self, peer: SocketAddr, out: &mut Effects<Self>) {
        match BUG {
            SILENT => {}
            INVENTS => out.send(peer, Largest(self.largest + 1_000_000)),
            _ => out.send(peer, Largest(self.largest)),
        }
    }
}

impl<const BUG: u8> Protocol for Node<BUG> {
    type Peer = SocketAddr;
    type Message = Largest;
    type Command = Raise;
    type Timer = Tell;
    type Record = NoRecord;
    type Event = Raised;

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Started => out.set_timer(Tell, PERIOD),
            Input::Elapsed(Tell) => self.tell_one(out),
            Input::Requested(Raise(to)) => self.raise(to, out),
            Input::Received { from, message: Largest(theirs) } => {
                if theirs < self.largest {
                    self.largest = if BUG == FALLS { 0 } else { self.largest };
                    self.tell(from, out);
                }
                self.raise(theirs, out);
            }
            Input::Synced { .. } => {} // there is no disk
        }
    }
}

impl Wire for Largest {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.0);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let largest = bytes.try_get_u64()?;
        at_end(&bytes)?;
        Ok(Self(largest))
    }
}
