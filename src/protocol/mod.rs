//! The contract between a protocol machine and whatever drives it.
//!
//! A machine does no I/O: an [`Input`] and the [`Time`] go in, an ordered list of [`Effect`]s comes
//! out. The drivers, `net` with real sockets and a real disk and `sim` in
//! virtual time, run the same machine through the same [`host`](crate::host).
//!
//! # The order of effects is the durability contract
//!
//! What follows an [`Effect::Persist`] waits until that record is durable; what precedes it need not.
//! A vote therefore comes after its `Persist`, and a leader's appends may come before its own, so that
//! its disk and its followers work in parallel. A driver may delay an effect past later persists, and
//! never moves one before an earlier persist. To everybody outside, the machine is thus one that writes
//! its disk synchronously and happens to be slow; the machine itself never asks whether a write is done.
//! The same rule gives group commit: step every queued input, write all their records at once, make them
//! durable with one `fdatasync`, let the effects go.
//!
//! Two effects stand outside of that order, for what rests on no record: [`Effect::Meanwhile`] and [`Effect::EmitAtOnce`].
//! A node whose disk is slow goes on saying that it is there, and that it has no answer, while nothing durable is said.
//!
//! # Chance comes from the driver
//!
//! The same inputs at the same times give the same effects. A machine may own a seeded generator; the driver gives the seed when it
//! makes the machine, and draws the lengths of its timers.
//!
//! # A protocol, and a driver
//!
//! ```
//! use std::time::Duration;
//!
//! use netbelt::host::{Host, Output};
//! use netbelt::protocol::{Effects, Input, Protocol, Time};
//!
//! /// Counts what its peers say, and answers with the count once that is durable.
//! struct Counter(u64);
//!
//! impl Protocol for Counter {
//!     type Peer = u8;
//!     type Message = u64;
//!     type Command = ();
//!     type Timer = ();
//!     type Record = u64;
//!     type Event = u64;
//!
//!     fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Effects<Self>) {
//!         match input {
//!             Input::Started => out.set_timer((), Duration::from_secs(1)..=Duration::from_secs(2)),
//!             Input::Received { from, message: _ } => {
//!                 self.0 += 1;
//!                 out.persist(self.0);
//!                 out.send(from, self.0);
//!             }
//!             Input::Elapsed(()) | Input::Requested(()) => out.emit(self.0),
//!             Input::Synced { .. } => {}
//!         }
//!     }
//! }
//!
//! let now = Time::ZERO;
//! let mut host = Host::new(Counter(0), 1);
//! host.step(now, Input::Started);
//! host.step(now, Input::Received { from: 7, message: 0 });
//! assert!(host.next_output().is_none(), "the answer waits for the disk");
//! assert_eq!(host.take_batch(now), Some(vec![1])); // which a driver writes and syncs
//! host.batch_durable(now);
//! assert!(matches!(host.next_output(), Some(Output::Send { to: 7, message: 1 })));
//!
//! host.fire_due(now + Duration::from_secs(2)); // a driver sleeps until `next_deadline`
//! assert!(matches!(host.next_output(), Some(Output::Emit(1))));
//! ```

use std::fmt::{self, Debug};
use std::ops::{Add, RangeInclusive};
use std::time::Duration;

#[cfg(test)]
pub(crate) mod testing;

/// A point in time, counted from the driver's epoch. Only drivers make one; machines compare and add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The driver's epoch.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The point `since_epoch` after the driver's epoch.
    pub const fn after_epoch(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    /// How long after the driver's epoch this is.
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A protocol as a plain state machine.
pub trait Protocol: Sized {
    /// Names another participant.
    type Peer: Copy + Ord + Debug;
    /// What participants say to each other: typed, never bytes.
    type Message: Clone + Debug;
    /// What the local application asks.
    type Command: Debug;
    /// The machine's timers: a closed set of names, each running at most once.
    type Timer: Copy + Ord + Debug;
    /// What must survive a crash. Recovery is a fold over the records, in the order they were persisted.
    type Record: Clone + Debug;
    /// What the local application is told.
    type Event: Debug;

    /// Takes one input at `now` and appends what is to be done about it to `out`, in order.
    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>);

    /// About how many bytes a record takes on a disk: a driver makes no more durable at a time than a disk takes in a short
    /// time.
    fn record_bytes(_record: &Self::Record) -> usize {
        0
    }
}

/// The record of a machine that has no disk: there is none.
#[derive(Clone, Debug)]
pub enum NoRecord {}

/// What happens to a machine.
pub enum Input<P: Protocol> {
    /// The first input after construction or recovery.
    Started,
    /// A peer's message arrived.
    Received {
        /// The peer, as the driver knows it (not as the message claims).
        from: P::Peer,
        /// What it said.
        message: P::Message,
    },
    /// A timer set earlier has run out; it is no longer set.
    Elapsed(P::Timer),
    /// The local application asks for something.
    Requested(P::Command),
    /// Records have become durable, after so long. Effects that waited go by themselves; this is for a machine that sets
    /// its times by its disk.
    Synced {
        /// How long the write and its sync took.
        took: Duration,
        /// Whether records are left that are not durable.
        more: bool,
    },
}

/// What a machine wants done.
pub enum Effect<P: Protocol> {
    /// Make this record durable; every later effect waits for it.
    Persist(P::Record),
    /// Send a message; it may be lost, delayed, repeated or overtaken.
    Send {
        /// To whom.
        to: P::Peer,
        /// What to say.
        message: P::Message,
    },
    /// Start a timer, replacing the one of that name. The driver draws the length from the range. A zero length runs out once
    /// everything queued has been stepped.
    SetTimer(P::Timer, RangeInclusive<Duration>),
    /// Stop a timer, if it runs.
    CancelTimer(P::Timer),
    /// Tell the local application.
    Emit(P::Event),
    /// Send this at once if what follows has to wait for the disk, and nothing at all otherwise: what follows says more.
    Meanwhile {
        /// To whom.
        to: P::Peer,
        /// What to say.
        message: P::Message,
    },
    /// Tell the local application, past everything that waits for the disk.
    EmitAtOnce(P::Event),
}

/// An ordered list of effects.
pub struct Effects<P: Protocol>(Vec<Effect<P>>);

impl<P: Protocol> Effects<P> {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends [`Effect::Persist`].
    pub fn persist(&mut self, record: P::Record) {
        self.0.push(Effect::Persist(record));
    }

    /// Appends [`Effect::Send`].
    pub fn send(&mut self, to: P::Peer, message: P::Message) {
        self.0.push(Effect::Send { to, message });
    }

    /// Appends [`Effect::SetTimer`].
    pub fn set_timer(&mut self, timer: P::Timer, length: RangeInclusive<Duration>) {
        self.0.push(Effect::SetTimer(timer, length));
    }

    /// Appends [`Effect::CancelTimer`].
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.0.push(Effect::CancelTimer(timer));
    }

    /// Appends [`Effect::Emit`].
    pub fn emit(&mut self, event: P::Event) {
        self.0.push(Effect::Emit(event));
    }

    /// Appends [`Effect::Meanwhile`].
    pub fn meanwhile(&mut self, to: P::Peer, message: P::Message) {
        self.0.push(Effect::Meanwhile { to, message });
    }

    /// Appends [`Effect::EmitAtOnce`].
    pub fn emit_at_once(&mut self, event: P::Event) {
        self.0.push(Effect::EmitAtOnce(event));
    }

    /// Takes the effects out, in order, and keeps the room they used.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<P>> {
        self.0.drain(..)
    }

    /// The effects so far, in order.
    pub fn as_slice(&self) -> &[Effect<P>] {
        &self.0
    }
}

impl<P: Protocol> Default for Effects<P> {
    fn default() -> Self {
        Self::new()
    }
}

// Derived impls would ask `P: Debug` of the machine itself, which nobody needs.
impl<P: Protocol> Debug for Input<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("Started"),
            Self::Received { from, message } => write!(f, "Received from {from:?}: {message:?}"),
            Self::Elapsed(timer) => write!(f, "Elapsed {timer:?}"),
            Self::Requested(command) => write!(f, "Requested {command:?}"),
            Self::Synced { took, more } => {
                write!(f, "Synced after {took:?}{}", if *more { ", with more to come" } else { "" })
            }
        }
    }
}

impl<P: Protocol> Debug for Effect<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persist(record) => write!(f, "Persist {record:?}"),
            Self::Send { to, message } => write!(f, "Send to {to:?}: {message:?}"),
            Self::SetTimer(timer, length) => write!(f, "SetTimer {timer:?} {length:?}"),
            Self::CancelTimer(timer) => write!(f, "CancelTimer {timer:?}"),
            Self::Emit(event) => write!(f, "Emit {event:?}"),
            Self::Meanwhile { to, message } => write!(f, "Meanwhile to {to:?}: {message:?}"),
            Self::EmitAtOnce(event) => write!(f, "EmitAtOnce {event:?}"),
        }
    }
}

impl<P: Protocol> Debug for Effects<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
