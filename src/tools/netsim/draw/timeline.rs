//! What a trace tells: lanes with bands, arrows between them, and marks.

/// Logs are drawn when none is longer.
pub(super) const LONGEST_LOG: usize = 10;

/// What goes along the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Axis {
    /// Virtual time, in microseconds.
    #[default]
    Time,
    /// Steps of a script.
    Steps,
}

/// A whole trace, or the part of it that is drawn.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub(super) axis: Axis,
    pub(super) nodes: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) bands: Vec<Band>,
    pub(super) pauses: Vec<Band>,
    pub(super) isolations: Vec<CutOff>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) marks: Vec<Mark>,
    /// Lines of a script, with the step of each.
    pub(super) lines: Vec<(f64, usize, String)>,
    /// The logs at each change.
    pub(super) logs: Vec<LogAt>,
    pub(super) words: Words,
    /// What is not to be seen, in words.
    pub(super) notes: Vec<String>,
}

/// The words of a trace that are not Raft's: [`Kind::Other`] and [`Role::Other`] are places among them.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// Types of messages.
    pub(super) types: Vec<String>,
    /// States.
    pub(super) states: Vec<String>,
}

/// The log that a node has from here on.
#[derive(Clone, Debug, Default)]
pub(super) struct LogAt {
    pub(super) node: usize,
    pub(super) at: f64,
    /// A snapshot has what was before this index.
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogEntry {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) says: String,
}

/// A stretch of a lane.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) node: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) role: Role,
    pub(super) term: Option<u64>,
    /// The term, or what else is known of the node.
    pub(super) says: String,
}

/// Neighbouring lanes that are cut off for a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) from: f64,
    pub(super) to: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It has not said yet what it is.
    Started,
    Follower,
    /// Asks whether it could be elected.
    PreCandidate,
    Candidate,
    Leader,
    /// Of another protocol: a state with a word of its own.
    Other(usize),
    /// Only facts: those that follow each other have numbers that do.
    Plain(usize),
    Down,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) sent: f64,
    /// When it arrived or was lost; None while it was on its way at the end.
    pub(super) ended: Option<f64>,
    pub(super) lost: Option<Lost>,
    pub(super) kind: Kind,
    pub(super) reply: bool,
    pub(super) says: String,
    /// The entries it carries.
    pub(super) entries: Option<(u64, u64)>,
    /// Of a reply: yes or no.
    pub(super) answer: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    OnItsWay,
    AtTheEnd,
}

/// A family of messages, with a colour of its own. The last to be left out comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Transfer,
    Vote,
    PreVote,
    Snapshot,
    Append,
    Forward,
    Read,
    Heartbeat,
    /// A type of another protocol.
    Other(usize),
}

impl Kind {
    /// The name of its arrow heads.
    pub(super) fn id(self) -> String {
        match self {
            Self::Other(place) => format!("Other{place}"),
            known => format!("{known:?}"),
        }
    }
}

/// Something at one node at one time.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Commit {
        node: usize,
        index: u64,
    },
    /// A candidate has so many votes of so many.
    Votes {
        node: usize,
        votes: usize,
        of: usize,
        pre: bool,
    },
    Crash {
        node: usize,
    },
    Wipe {
        node: usize,
    },
    Start {
        node: usize,
    },
    Cut {
        from: usize,
        to: usize,
    },
    Join {
        from: usize,
        to: usize,
    },
    Heal,
    /// Something else that a protocol tells of a node.
    Told {
        node: usize,
        says: String,
    },
}

impl Timeline {
    /// Where a line of the script begins, or where what it led to ends.
    pub(super) fn step_of_line(&self, line: usize, end: bool) -> Option<f64> {
        let place = self.lines.iter().position(|(_, number, _)| *number >= line)?;
        Some(if end { self.lines.get(place + 1).map_or(self.to, |next| next.0 - 1.0) } else { self.lines[place].0 })
    }
}
