//! What nodes say to each other, what they are asked and what they tell.

use super::types::{Id, Rule, Term};
use crate::protocol::Time;

/// A message: the sender's term and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The newest term that the sender holds to; of a leader, the one that it leads.
    pub term: Term,
    /// The rest.
    pub body: Body,
}

/// What a message says. ELECTION, ANSWER and COORDINATOR have their names from the textbooks (Coulouris et al.,
/// *Distributed Systems*, §15.3); the paper has a probe and its answer, and NewCoordinator. CLAIM and PROMISE stand where
/// the paper has Halt; with a quorum they make its leader safe.
///
/// `sent` is the sender's own clock, and comes back as it was: only who sent it first looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// "Is anybody better alive?" With a quorum everybody is asked, and it also asks a worse leader to make way.
    Election,
    /// "Yes, I am: leave it to me."
    Answer,
    /// "I do not stand in your way": from a better node that does not want to lead now; with a quorum, from everybody who
    /// would promise. It binds nobody.
    Willing,
    /// "Promise me this term" (quorum).
    Claim {
        /// When it was asked.
        sent: Time,
    },
    /// "This term is yours, and for one time-out since I heard you I promise nobody another" (quorum).
    Promise {
        /// When it was asked.
        sent: Time,
    },
    /// "I lead this term": at its beginning, and as the leader's heartbeat.
    Coordinator {
        /// When it was said.
        sent: Time,
        /// Why it stood for election.
        reason: Reason,
    },
    /// "You lead me, and for one time-out since I heard you I promise nobody another term" (quorum).
    Following {
        /// When the leader said what is answered.
        sent: Time,
    },
    /// "I am here", from whoever does not lead.
    Alive,
    /// "I lead no longer, and nothing runs here that should not: elect at once."
    Released {
        /// Why.
        reason: Reason,
    },
}

/// Why something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The node has just started, and hears no leader.
    Start,
    /// The leader was silent for a time-out.
    HeartbeatTimeout,
    /// A node that is better by the rule has come.
    BetterIdStarted,
    /// A node that is worse by the rule holds an election.
    WorseIdAsked,
    /// A better node has answered, and did not become leader in time.
    NoCoordinator,
    /// The leader was asked to resign.
    Resigned,
    /// The leader was not heard by a majority.
    LostQuorum,
    /// Somebody holds to a term beyond the leader's.
    HigherTerm,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::HeartbeatTimeout,
        Self::BetterIdStarted,
        Self::WorseIdAsked,
        Self::NoCoordinator,
        Self::Resigned,
        Self::LostQuorum,
        Self::HigherTerm,
    ];

    /// Its name in events: better is higher, or lower, by the rule.
    pub const fn name(self, rule: Rule) -> &'static str {
        match (self, rule) {
            (Self::Start, _) => "start",
            (Self::HeartbeatTimeout, _) => "heartbeat-timeout",
            (Self::BetterIdStarted, Rule::Highest) => "higher-id-started",
            (Self::BetterIdStarted, Rule::Lowest) => "lower-id-started",
            (Self::WorseIdAsked, Rule::Highest) => "lower-id-asked",
            (Self::WorseIdAsked, Rule::Lowest) => "higher-id-asked",
            (Self::NoCoordinator, _) => "no-coordinator",
            (Self::Resigned, _) => "resigned",
            (Self::LostQuorum, _) => "lost-quorum",
            (Self::HigherTerm, _) => "higher-term",
        }
    }
}

/// What must survive a crash (quorum only): the latest promise. Recovery is a fold: the highest term holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The term promised.
    pub term: Term,
    /// To whom; none other gets it.
    pub to: Id,
}

/// What the local application asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Let another node lead, and do not stand for one time-out. A node that does not lead has nothing to resign.
    Resign,
    /// What ran because this node led is over, every process of it: nobody needs to wait out its grace.
    Ended,
}

/// What the local application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node begins an election. Repetitions of one that comes to nothing are not told.
    Election {
        /// Why.
        reason: Reason,
    },
    /// There is a leader, this node or another one.
    Leader {
        /// Who.
        leader: Id,
        /// The term that it leads: the fencing token.
        term: Term,
        /// Why it stood for election.
        reason: Reason,
    },
    /// This node leads no longer: what runs because it led must be over within the grace.
    StepDown {
        /// The term that it led.
        term: Term,
        /// Why.
        reason: Reason,
    },
    /// Nothing was heard of a peer for a time-out.
    PeerDown {
        /// Which.
        peer: Id,
    },
    /// A peer is heard, for the first time or again.
    PeerUp {
        /// Which.
        peer: Id,
    },
}

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Tell everybody that this node is here.
    Heartbeat,
    /// Something was awaited, and has not come: to a follower the leader's word, to a candidate answers, to a leader its
    /// majority, to one that has stepped down the end of its command.
    Silence,
}

/// What a node is, as `status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// It follows, or waits for a leader.
    Follower,
    /// It stands for election.
    Candidate,
    /// It leads.
    Leader,
    /// It led, and waits for what ran because of that to end.
    Leaving,
}

impl RoleName {
    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Leaving => "leaving",
        }
    }
}
