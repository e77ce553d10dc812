//! What a leader knows of one follower.

use std::collections::VecDeque;

use super::message::{InstallSnapshot, Round};
use super::types::{Index, Position};
use crate::protocol::Time;

/// A follower as its leader sees it (Raft, Figure 2, "Volatile state on leaders").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The next entry to send: `match_index < next_index <= last log index + 1`.
    pub next_index: Index,
    /// The follower's log is known to equal the leader's up to here: `0 <= match_index < next_index`.
    pub match_index: Index,
    /// How entries travel.
    pub flow: Flow,
    /// The latest round it has answered.
    pub round: Round,
    /// When it was last heard.
    pub heard: Time,
    /// When it last answered for its log, for which it may have had to wait for its disk.
    pub answered: Time,
    /// Whether it has been heard and has answered lately: nobody is sent a snapshot who is not there, or cannot take it.
    pub reachable: bool,
    /// How a learner catches up.
    pub catching_up: CatchingUp,
}

/// The round of a learner's catching up: what the leader had when it began, and when that was (thesis §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CatchingUp {
    /// The leader's last entry when the round began.
    pub target: Index,
    /// When it began.
    pub since: Time,
}

/// How entries travel to a follower (after etcd-io/raft's probe and replicate states).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Where the logs agree is not known: one append at a time, until one matches.
    Probe {
        /// An append is on its way. In case it was lost, the answer to the next heartbeat tells as much.
        awaiting: bool,
    },
    /// The logs agree: appends follow each other without waiting, up to a window.
    Replicate {
        /// Each append that is not answered yet: its last index, and how many bytes it has.
        in_flight: VecDeque<(Index, usize)>,
        /// The sum of those bytes.
        bytes: usize,
    },
    /// The entries it needs are gone: it gets a snapshot, one part at a time.
    Snapshot(Install),
}

/// A snapshot on its way to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Install {
    /// The part on its way, or wanted from the application.
    pub number: u64,
    /// The last entry the snapshot replaces, once part 0 has been offered.
    pub last: Option<Position>,
    /// The part on its way, kept in case it is lost, and when it was first and last sent.
    pub unanswered: Option<Unanswered>,
}

/// A part of a snapshot to which there is no answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unanswered {
    /// The part.
    pub part: InstallSnapshot,
    /// When it was sent first.
    pub first: Time,
    /// When it was sent last.
    pub last: Time,
}

/// How much may be on its way to one follower (thesis §10.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Appends.
    pub appends: usize,
    /// Bytes; the append that passes them is the last.
    pub bytes: usize,
}

/// Room for an append to one follower.
#[derive(Debug)]
pub enum Room<'a> {
    /// In [`Flow::Probe`].
    Probe {
        /// Whether one is on its way.
        awaiting: &'a mut bool,
    },
    /// In [`Flow::Replicate`].
    Replicate {
        /// Those on their way.
        in_flight: &'a mut VecDeque<(Index, usize)>,
        /// Their bytes.
        bytes: &'a mut usize,
        /// The next entry to send.
        next_index: &'a mut Index,
    },
}

impl Room<'_> {
    /// An append of `size` bytes that ends at `last` takes it.
    pub fn take(self, last: Index, size: usize) {
        match self {
            Self::Probe { awaiting } => *awaiting = true,
            Self::Replicate { in_flight, bytes, next_index } => {
                in_flight.push_back((last, size));
                *bytes += size;
                *next_index = last.next();
            }
        }
    }
}

impl Progress {
    /// A new leader knows nothing, and begins at its own end (Raft §5.3).
    pub const fn new(last: Position, now: Time) -> Self {
        Self {
            next_index: last.index.next(),
            match_index: Index(0),
            flow: Flow::Probe { awaiting: false },
            round: Round(0),
            heard: now,
            answered: now,
            reachable: false,
            catching_up: CatchingUp { target: last.index, since: now },
        }
    }

    /// The follower has answered for its log.
    pub const fn note_answer(&mut self, now: Time) {
        (self.heard, self.answered, self.reachable) = (now, now, true);
    }

    /// Room for another append with entries, if there is any.
    pub fn room(&mut self, window: Window) -> Option<Room<'_>> {
        match &mut self.flow {
            Flow::Probe { awaiting } => (!*awaiting).then_some(Room::Probe { awaiting }),
            Flow::Replicate { in_flight, bytes } => {
                let has_room = in_flight.len() < window.appends && *bytes < window.bytes;
                has_room.then_some(Room::Replicate { in_flight, bytes, next_index: &mut self.next_index })
            }
            Flow::Snapshot(_) => None,
        }
    }

    /// The follower matches up to `index`. True when that is news.
    pub fn matched(&mut self, index: Index) -> bool {
        let news = index > self.match_index;
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(index.next());
        let agreed = match &mut self.flow {
            Flow::Probe { .. } => true,
            // A heartbeat is answered in the meantime, too, and says nothing.
            Flow::Snapshot(install) => install.last.is_some_and(|last| index >= last.index),
            Flow::Replicate { in_flight, bytes } => {
                while let Some((_, size)) = in_flight.pop_front_if(|(last, _)| *last <= index) {
                    *bytes -= size;
                }
                false
            }
        };
        if agreed {
            self.next_index = self.match_index.next();
            self.flow = Flow::Replicate { in_flight: VecDeque::new(), bytes: 0 };
        }
        news
    }

    /// The follower refused an append after `prev`; `retry` is where to try next. False for an answer that is
    /// out of date.
    pub fn refused(&mut self, prev: Index, retry: Index) -> bool {
        let current = match &self.flow {
            Flow::Probe { .. } => prev == self.next_index.prev(),
            Flow::Replicate { .. } => prev > self.match_index,
            Flow::Snapshot(_) => false,
        };
        if current {
            let retry = if cfg!(mutant = "no_back_off") { self.next_index } else { retry.min(prev) };
            self.next_index = retry.max(self.match_index.next());
            self.flow = Flow::Probe { awaiting: false };
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_refusal_does_not_move_a_follower_that_has_matched_since() {
        let mut progress = Progress::new(Position { term: super::super::Term(1), index: Index(10) }, Time::ZERO);
        assert!(progress.refused(Index(10), Index(4)));
        assert_eq!(progress.next_index, Index(4));
        assert!(!progress.refused(Index(10), Index(2)), "answers an append that has been retried");
        assert!(progress.matched(Index(6)));
        assert!(!progress.refused(Index(5), Index(1)));
        assert_eq!((progress.match_index, progress.next_index), (Index(6), Index(7)));
    }
}
