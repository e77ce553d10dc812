//! The trace of a run: a hash over everything that happened, and what happened, moment by moment, when asked for.

use std::fmt::{self, Write};
use std::time::Duration;

use super::observe::{Label, Look};
use crate::protocol::Time;

/// How much of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keep {
    /// Nothing: the fastest.
    Nothing,
    /// A hash, to tell whether two runs are the same.
    #[default]
    Hash,
    /// The hash and every moment.
    Moments,
}

/// Something that happened. Nodes are known by their numbers, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in virtual time.
    pub at: Duration,
    /// The ordinal of the step: what happens in one step happens at once.
    pub step: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message left its sender.
    Sent(Flight),
    /// It arrived.
    Delivered(Flight),
    /// It never will.
    Lost(Flight, Loss),
    /// What can be seen of a node has changed.
    Changed {
        /// The node.
        node: usize,
        /// What it is now.
        look: Look,
    },
    /// Records became durable on a node's disk.
    Persisted {
        /// The node.
        node: usize,
        /// How many.
        records: usize,
    },
    /// A node stopped, and lost what was not durable.
    Crashed {
        /// The node.
        node: usize,
    },
    /// A node lost its disk.
    Wiped {
        /// The node.
        node: usize,
    },
    /// A node started, from its disk.
    Started {
        /// The node.
        node: usize,
        /// How many records it found.
        records: usize,
    },
    /// A node does nothing for a while.
    Paused {
        /// The node.
        node: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A link takes nothing from here on.
    Cut {
        /// From this node.
        from: usize,
        /// To that one.
        to: usize,
    },
    /// It does again.
    Joined {
        /// From this node.
        from: usize,
        /// To that one.
        to: usize,
    },
    /// All faults end.
    Healed,
    /// A line of a script.
    Line {
        /// Its number, from 1.
        number: usize,
        /// Its text.
        text: String,
    },
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// Names this copy of the message: what was sent twice arrives under two names.
    pub id: u64,
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// What it says.
    pub label: Label,
}

/// Why a message does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The link is cut.
    Cut,
    /// The network lost it.
    Chance,
    /// The receiver is down.
    Down,
    /// A script dropped it.
    Dropped,
}

impl Loss {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Chance => "chance",
            Self::Down => "down",
            Self::Dropped => "dropped",
        }
    }
}

/// Keeps as much as it was told to.
#[derive(Debug)]
pub struct Trace {
    keep: Keep,
    hash: Fnv1a,
    moments: Vec<Moment>,
    step: u64,
}

impl Trace {
    /// An empty trace.
    pub const fn new(keep: Keep) -> Self {
        Self { keep, hash: Fnv1a(0xcbf2_9ce4_8422_2325), moments: Vec::new(), step: 0 }
    }

    /// What follows happens in another step.
    pub const fn next_step(&mut self) {
        self.step += 1;
    }

    /// Adds to the hash.
    pub fn hash_in(&mut self, at: Time, text: fmt::Arguments<'_>) {
        if self.keep != Keep::Nothing {
            writeln!(self.hash, "{:?} {text}", at.since_epoch().as_micros()).expect("hashing cannot fail");
        }
    }

    /// Adds a moment, which is made only when moments are kept.
    pub fn moment(&mut self, at: Time, what: impl FnOnce() -> What) {
        if self.keeps_moments() {
            self.moments.push(Moment { at: at.since_epoch(), step: self.step, what: what() });
        }
    }

    /// Whether moments are kept.
    pub fn keeps_moments(&self) -> bool {
        self.keep == Keep::Moments
    }

    /// The hash so far.
    pub const fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The moments since they were last taken.
    pub fn take_moments(&mut self) -> Vec<Moment> {
        std::mem::take(&mut self.moments)
    }
}

/// FNV-1a, 64 bits: tells traces apart, and is the same on every machine and in every version.
#[derive(Debug)]
struct Fnv1a(u64);

impl Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
