//! The smallest protocol that is one: every node has a number, and all come to know the largest.
//!
//! Anti-entropy by push and pull (Demers et al. 1987, "Epidemic algorithms for replicated database maintenance", §1.3):
//! once a period a node tells its number to one other, drawn at random; who has a larger one says so. Without a disk, a
//! node that starts again begins at zero, and is told the rest; with one, its number is durable before anybody hears it.

use std::fmt::Debug;
use std::marker::PhantomData;
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

/// A node. `R` is what it keeps on its disk: nothing, or its number.
pub(crate) type Gossip<R = NoRecord> = Node<NO_BUG, R>;

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
pub(crate) struct Node<const BUG: u8, R = NoRecord> {
    others: Vec<SocketAddr>,
    largest: u64,
    rng: ChaCha8Rng,
    record: PhantomData<R>,
}

/// What a node makes durable when its number has become this one.
pub(crate) trait Kept: Clone + Debug {
    fn of(largest: u64) -> Option<Self>;
}

impl Kept for NoRecord {
    fn of(_: u64) -> Option<Self> {
        None
    }
}

impl Kept for Largest {
    fn of(largest: u64) -> Option<Self> {
        Some(Self(largest))
    }
}

/// What nodes say to each other, and keep: the largest number that the sender knows.
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
        Self::knowing(0, others, seed)
    }
}

impl Gossip<Largest> {
    /// The same with a disk, which has these records.
    pub(crate) fn recovered(
        records: impl Iterator<Item = Largest>,
        others: impl IntoIterator<Item = SocketAddr>,
        seed: u64,
    ) -> Self {
        Self::knowing(records.map(|Largest(largest)| largest).max().unwrap_or(0), others, seed)
    }
}

impl<const BUG: u8, R: Kept> Node<BUG, R> {
    fn knowing(largest: u64, others: impl IntoIterator<Item = SocketAddr>, seed: u64) -> Self {
        let (others, rng) = (others.into_iter().collect(), ChaCha8Rng::seed_from_u64(seed));
        Self { others, largest, rng, record: PhantomData }
    }

    /// The largest number it knows.
    pub(crate) const fn largest(&self) -> u64 {
        self.largest
    }

    fn raise(&mut self, to: u64, out: &mut Effects<Self>) {
        if to > self.largest {
            self.largest = to;
            if let Some(record) = R::of(to) {
                out.persist(record);
            }
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

impl<const BUG: u8, R: Kept> Protocol for Node<BUG, R> {
    type Peer = SocketAddr;
    type Message = Largest;
    type Command = Raise;
    type Timer = Tell;
    type Record = R;
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
            Input::Synced { .. } => {}
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
