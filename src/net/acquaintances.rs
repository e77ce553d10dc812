//! Whom this node has met: so that a node which lost its past cannot pass for the one that had it.
//!
//! A vote that was given must be remembered, and so must an entry that was acknowledged. A member whose data directory was
//! wiped remembers neither, and comes back under its old name: it would vote twice in a term, and elect a leader that lacks
//! what it had vouched for. So each data directory has a random number, its *incarnation*. Nodes tell it to each other when
//! they connect, and each keeps in `peers.json` the one that it knows every other by:
//!
//! ```text
//! {"format":2,"cluster":"9f..","peers":{"n2":{"incarnation":"3c..","start":{"number":3,"mark":"5e.."}},
//!                                       "n3":{"incarnation":"70..","start":{"number":1,"mark":"b2.."},"removed":true}}}
//! ```
//!
//! It keeps the latest [start](super::starts), too, that it was told of (format 1 has none). Another incarnation under the same
//! name is refused, until that name has been removed from the members. A node that joins says its incarnation when it asks to
//! be added, and gets a [`Seat`] for that one only, which every member learns from the log. The cluster has a random number,
//! too, so that nodes of two clusters whose addresses got mixed up do not talk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::data_dir::{DataDirError, read_json, write_durably};
use super::starts::{Start, Starts};
use crate::defaults::{MAX_KNOWN, MAX_TURNED_AWAY};

/// The newest format of the file.
const FORMAT: u32 = 2;

const FILE: &str = "peers.json";

/// A number drawn at random that names a data directory or a cluster; 16 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidToken);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidToken)
    }
}

impl TryFrom<String> for Token {
    type Error = InvalidToken;

    fn try_from(text: String) -> Result<Self, InvalidToken> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.to_string()
    }
}

/// What the members' configuration says of one of them: `HOST:PORT`, or `HOST:PORT#INCARNATION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Where it is; empty when that is not known.
    pub addr: String,
    /// The only one that may take it, if that is known.
    pub incarnation: Option<Token>,
}

impl Seat {
    /// Reads it back.
    pub fn of(text: &str) -> Self {
        match text.rsplit_once('#').map(|(addr, token)| (addr, token.parse())) {
            Some((addr, Ok(incarnation))) => Self { addr: addr.to_owned(), incarnation: Some(incarnation) },
            Some((_, Err(InvalidToken))) | None => Self { addr: text.to_owned(), incarnation: None },
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Some(incarnation) => write!(f, "{}#{incarnation}", self.addr),
            None => f.write_str(&self.addr),
        }
    }
}

/// Not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Error)]
#[error("not 16 hexadecimal digits")]
pub struct InvalidToken;

/// What nodes tell each other of themselves before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster, once it is known.
    pub cluster: Option<Token>,
    /// The data directory.
    pub incarnation: Token,
    /// What became of it.
    pub starts: Starts,
}

/// Why a node is not spoken to. The text is for both sides.
#[derive(Debug, Error)]
pub enum Stranger {
    /// It belongs elsewhere.
    #[error(
        "{peer} belongs to cluster {theirs} and {me} to cluster {ours}: check --peer and --join of both; a node changes its \
         cluster by starting with an empty --data-dir"
    )]
    OtherCluster {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// This node's cluster.
        ours: Token,
        /// The other's.
        theirs: Token,
    },
    /// It has not the past of the node of that name.
    #[error(
        "{me} knows {peer} by another data directory: it was wiped, or replaced, and must not vote with what it forgot; \
         remove the member and add it again: raft-ctl members remove {peer}, then raft-node --id {peer} --join HOST:PORT with \
         an empty --data-dir"
    )]
    OtherIncarnation {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// It has the past of the node of that name only up to some day.
    #[error(
        "{me} knows {peer} by another copy of its data directory, whose start {start} is unknown to this one: it was cloned, or \
         put back to how it was before, and must not vote with what it forgot; stop this copy and start the other one, or, if \
         that is gone, remove the member and add it again: raft-ctl members remove {peer}, then raft-node --id {peer} --join \
         HOST:PORT with an empty --data-dir"
    )]
    OtherPast {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// The number of the start that it should know.
        start: u64,
    },
    /// It is no member any more.
    #[error(
        "{peer} was removed from the cluster of {me}; to let it in again: raft-node --id {peer} --join HOST:PORT with an empty \
         --data-dir"
    )]
    Removed {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// Nothing speaks for it.
    #[error(
        "{peer} is not a member of the cluster of {me}: check --peer of {me}, or add it: raft-ctl members add {peer}=HOST:PORT"
    )]
    NotAMember {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// It cannot be remembered.
    #[error("{me} cannot remember {peer}: {why}")]
    Forgetful {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// What failed.
        why: String,
    },
}

/// The nodes that this one has met.
#[derive(Debug)]
pub struct Acquaintances {
    dir: PathBuf,
    me: String,
    incarnation: Token,
    starts: Starts,
    book: Mutex<Book>,
    /// What the others said when they refused this node, until they take it.
    refusals: Mutex<BTreeMap<String, String>>,
    /// What this node last said to those it refused.
    turned_away: Mutex<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    format: u32,
    cluster: Option<Token>,
    peers: BTreeMap<String, Peer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    incarnation: Token,
    /// The latest that it told of; None, when a netbelt that did not ask wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
    /// It was met before this node heard that it is a member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unseated: bool,
}

impl Acquaintances {
    /// Those of node `me`, whose data directory is `dir`, and has this incarnation and these starts.
    ///
    /// # Errors
    /// When the file is damaged or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, me: &str, incarnation: Token, starts: Starts) -> Result<Self, DataDirError> {
        let file = dir.join(FILE);
        let book = read_json(&file, FORMAT)?;
        let mut book = book.unwrap_or(Book { format: FORMAT, cluster: None, peers: BTreeMap::new() });
        book.format = FORMAT;
        Ok(Self {
            dir: dir.to_owned(),
            me: me.to_owned(),
            incarnation,
            starts,
            book: Mutex::new(book),
            refusals: Mutex::default(),
            turned_away: Mutex::default(),
        })
    }

    /// What this node says of itself.
    pub fn hello(&self) -> Hello {
        Hello { cluster: self.cluster(), incarnation: self.incarnation, starts: self.starts.clone() }
    }

    /// The cluster this node belongs to, once it is known.
    pub fn cluster(&self) -> Option<Token> {
        self.book().cluster
    }

    /// This node belongs to that cluster, for ever.
    ///
    /// # Errors
    /// When the disk refuses, and when it belongs to another.
    pub fn belong_to(&self, cluster: Token) -> Result<(), Stranger> {
        let mut book = self.book();
        match book.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(ours) => {
                Err(Stranger::OtherCluster { me: self.me.clone(), peer: "the log".to_owned(), ours, theirs: cluster })
            }
            None => self.keep(&mut book, "its cluster", |book| book.cluster = Some(cluster)),
        }
    }

    /// A node says that it is `peer`, which has this seat among the members, or none. What is new about a member is durable
    /// before this returns, and so before any of its messages is taken; that takes as long as an fsync, once a start. On a full
    /// disk, a start of a peer that is known is remembered until this node ends.
    ///
    /// # Errors
    /// Why it is not to be spoken to.
    pub fn meet(&self, peer: &str, hello: &Hello, seat: Option<&Seat>) -> Result<(), Stranger> {
        let (me, name) = (self.me.clone(), peer.to_owned());
        let mut book = self.book();
        if let (Some(ours), Some(theirs)) = (book.cluster, hello.cluster)
            && ours != theirs
        {
            return Err(Stranger::OtherCluster { me, peer: name, ours, theirs });
        }
        let known = book.peers.get(peer);
        let same = known.filter(|known| known.incarnation == hello.incarnation && !known.removed);
        let start = same.and_then(|known| known.start);
        if let Some(start) = start.filter(|start| !hello.starts.contain(*start)) {
            return Err(Stranger::OtherPast { me, peer: name, start: start.number });
        }
        let start = Some(hello.starts.latest());
        let is_known = same.is_some_and(|known| known.start == start);
        let unseated = seat.is_none() && same.is_none_or(|known| known.unseated);
        let met = Peer { incarnation: hello.incarnation, start, removed: false, unseated };
        match (seat, known) {
            (None, Some(known)) if known.removed && known.incarnation == hello.incarnation => {
                Err(Stranger::Removed { me, peer: name })
            }
            // A member of this very cluster may call before this node has heard of it. It is remembered all the same: as
            // soon as it is heard of, nobody else may have its name.
            (None, known) if hello.cluster.is_some() && hello.cluster == book.cluster => {
                if is_known || known.is_some_and(|known| known.removed) {
                    return Ok(());
                }
                if book.peers.len() >= MAX_KNOWN {
                    return Err(Stranger::NotAMember { me, peer: name });
                }
                self.remember(&mut book, name, met)
            }
            (None, _) => Err(Stranger::NotAMember { me, peer: name }),
            (Some(Seat { incarnation: Some(wanted), .. }), _) if *wanted != hello.incarnation => {
                Err(Stranger::OtherIncarnation { me, peer: name })
            }
            (Some(_), Some(_)) if is_known => Ok(()),
            (Some(Seat { incarnation: None, .. }), Some(known)) if same.is_none() && !known.removed => {
                Err(Stranger::OtherIncarnation { me, peer: name })
            }
            (Some(_), _) => self.remember(&mut book, name, met),
        }
    }

    fn remember(&self, book: &mut Book, peer: String, met: Peer) -> Result<(), Stranger> {
        let kept = self.keep(book, &peer, |book| _ = book.peers.insert(peer.clone(), met.clone()));
        match (kept, book.peers.get(&peer)) {
            (Err(why), Some(known)) if known.incarnation == met.incarnation && known.removed == met.removed => {
                tracing::warn!("{why}; a copy of its disk would not be noticed after a restart of this node");
                book.peers.insert(peer, met);
                Ok(())
            }
            (kept, _) => kept,
        }
    }

    /// Whether `peer`, a member whose seat is for any incarnation, may have it for this one.
    pub fn may_be(&self, peer: &str, incarnation: Token) -> bool {
        self.book().peers.get(peer).is_none_or(|known| known.removed || known.incarnation == incarnation)
    }

    /// Who `peer` is not, for those who ask on its behalf.
    pub fn other_incarnation(&self, peer: &str) -> Stranger {
        Stranger::OtherIncarnation { me: self.me.clone(), peer: peer.to_owned() }
    }

    /// These are the members now, and whether they vote: whoever was one is told that it is none. A name that comes back as a
    /// learner was added again, and may be taken by a new node; one that comes back as a voter never left, since its removal
    /// was not committed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn members_are(&self, members: &BTreeMap<&str, bool>) -> Result<(), Stranger> {
        let mut book = self.book();
        let is_up_to_date = |(name, peer): (&String, &Peer)| {
            let is_member = members.contains_key(name.as_str());
            if peer.unseated { !is_member } else { is_member != peer.removed }
        };
        if book.peers.iter().all(is_up_to_date) {
            return Ok(());
        }
        self.keep(&mut book, "the members", |book| {
            book.peers.retain(|name, peer| !(peer.removed && members.get(name.as_str()) == Some(&false)));
            for (name, peer) in &mut book.peers {
                let is_member = members.contains_key(name.as_str());
                peer.unseated &= !is_member;
                peer.removed = !is_member && !peer.unseated;
            }
        })
    }

    /// `peer` does not take this node, and says why; or it does.
    pub fn refused_by(&self, peer: &str, why: Option<&str>) {
        let mut refusals = lock(&self.refusals);
        match why {
            Some(why) => _ = refusals.insert(peer.to_owned(), why.to_owned()),
            None => _ = refusals.remove(peer),
        }
    }

    /// Who refuses this node and what he says, if anybody does.
    pub fn refusal(&self) -> Option<String> {
        lock(&self.refusals).iter().next().map(|(peer, why)| format!("refused by {peer}: {why}"))
    }

    /// This node refuses `peer`: says so in the log, once, as those who are refused try again.
    pub fn turn_away(&self, peer: &str, why: &Stranger) {
        let why = why.to_string();
        let mut said = lock(&self.turned_away);
        if said.len() >= MAX_TURNED_AWAY {
            said.clear(); // somebody makes up names
        }
        if said.get(peer) != Some(&why) {
            tracing::warn!("refused {peer}: {why}");
            said.insert(peer.to_owned(), why);
        }
    }

    /// Changes the book, on the disk first.
    fn keep(&self, book: &mut Book, what: &str, change: impl FnOnce(&mut Book)) -> Result<(), Stranger> {
        let mut changed = book.clone();
        change(&mut changed);
        let text = serde_json::to_vec(&changed).expect("a book is JSON");
        write_durably(&self.dir, FILE, |_| text).map_err(|error| Stranger::Forgetful {
            me: self.me.clone(),
            peer: what.to_owned(),
            why: error.to_string(),
        })?;
        *book = changed;
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HERE: Token = Token(1);

    fn hello(cluster: Option<u64>, incarnation: u64) -> Hello {
        Hello { cluster: cluster.map(Token), incarnation: Token(incarnation), starts: starts(1, &[1]) }
    }

    fn starts(number: u64, marks: &[u64]) -> Starts {
        let marks: Vec<_> = marks.iter().map(|mark| Token(*mark).to_string()).collect();
        format!("{number} {}", marks.join(",")).parse().unwrap()
    }

    fn try_open(dir: &Path) -> Result<Acquaintances, DataDirError> {
        Acquaintances::open(dir, "n1", HERE, starts(1, &[1]))
    }

    fn open(dir: &Path) -> Acquaintances {
        try_open(dir).unwrap()
    }

    const ANY: Option<&Seat> = Some(&Seat { addr: String::new(), incarnation: None });

    #[test]
    fn a_node_is_known_by_the_incarnation_it_had_when_it_was_met_first() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).meet("n2", &hello(None, 7), ANY).unwrap();
        let again = open(dir.path());
        again.meet("n2", &hello(None, 7), ANY).unwrap();
        let refused = again.meet("n2", &hello(None, 8), ANY).unwrap_err();
        assert!(matches!(refused, Stranger::OtherIncarnation { .. }));
        assert!(again.may_be("n2", Token(7)) && !again.may_be("n2", Token(8)) && again.may_be("n3", Token(8)));
        let said = refused.to_string();
        for remedy in ["members remove n2", "--join", "empty --data-dir"] {
            assert!(said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn of_two_copies_of_a_directory_the_one_that_was_met_stays_known_and_the_other_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let of = |number, marks: &[u64]| Hello { starts: starts(number, marks), ..hello(Some(99), 7) };
        let known = open(dir.path());
        known.belong_to(Token(99)).unwrap();
        known.meet("n2", &of(1, &[1]), ANY).unwrap();
        known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).expect("it was started where nobody met it");
        let known = open(dir.path());
        let copies = [of(1, &[1]), of(3, &[3, 2, 1]), of(4, &[14, 3, 2, 1]), of(5, &[15, 14, 3, 2, 1])];
        for copy in &copies {
            for seat in [ANY, None] {
                let refused = known.meet("n2", copy, seat).unwrap_err();
                assert!(matches!(refused, Stranger::OtherPast { start: 4, .. }), "{refused}");
                for remedy in ["stop this copy", "members remove n2", "empty --data-dir"] {
                    assert!(refused.to_string().contains(remedy), "{refused}");
                }
            }
        }
        known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).unwrap();
        known.meet("n2", &of(5, &[5, 4, 3, 2, 1]), None).expect("this node's members may be older");
        assert!(known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).is_err());
        // The remedy.
        known.members_are(&BTreeMap::from([("n1", true)])).unwrap();
        known.members_are(&BTreeMap::from([("n1", true), ("n2", false)])).unwrap();
        known.meet("n2", &hello(None, 8), ANY).unwrap();
    }

    #[test]
    fn a_book_of_format_1_is_read_and_keeps_the_first_start_it_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, r#"{"format":1,"cluster":null,"peers":{"n2":{"incarnation":"0000000000000007"}}}"#).unwrap();
        assert!(matches!(open(dir.path()).meet("n2", &hello(None, 8), ANY), Err(Stranger::OtherIncarnation { .. })));
        open(dir.path()).meet("n2", &hello(None, 7), ANY).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with(r#"{"format":2,"#));
        let copy = Hello { starts: starts(1, &[2]), ..hello(None, 7) };
        assert!(matches!(open(dir.path()).meet("n2", &copy, ANY), Err(Stranger::OtherPast { .. })));
    }

    #[test]
    fn a_removed_node_is_told_so_and_its_name_is_free_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        known.belong_to(Token(99)).unwrap();
        known.meet("n2", &hello(Some(99), 7), ANY).unwrap();
        known.members_are(&BTreeMap::from([("n1", true), ("n3", true)])).unwrap();
        let known = open(dir.path());
        assert!(matches!(known.meet("n2", &hello(Some(99), 7), None), Err(Stranger::Removed { .. })));
        known.members_are(&BTreeMap::from([("n1", true), ("n2", false), ("n3", true)])).unwrap();
        known.meet("n2", &hello(None, 8), ANY).expect("added again, with an empty directory");
        assert!(matches!(known.meet("n2", &hello(Some(99), 7), ANY), Err(Stranger::OtherIncarnation { .. })));
    }

    /// A node that joined met the others before it heard that they are members, did not remember them, and later took a
    /// wiped one for a member: an acknowledged write was lost.
    #[test]
    fn who_is_met_before_this_node_hears_of_its_seat_is_remembered_when_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        known.belong_to(Token(99)).unwrap();
        known.meet("n2", &hello(Some(99), 7), None).unwrap();
        known.members_are(&BTreeMap::from([("n1", false), ("n3", true)])).unwrap();
        known.meet("n2", &hello(Some(99), 7), None).expect("an older configuration does not remove it");
        known.members_are(&BTreeMap::from([("n1", false), ("n2", true), ("n3", true)])).unwrap();
        let known = open(dir.path());
        assert!(matches!(known.meet("n2", &hello(None, 8), ANY), Err(Stranger::OtherIncarnation { .. })));
        known.meet("n2", &hello(Some(99), 7), ANY).unwrap();
        known.members_are(&BTreeMap::from([("n1", true), ("n3", true)])).unwrap();
        assert!(matches!(known.meet("n2", &hello(Some(99), 7), None), Err(Stranger::Removed { .. })));
    }

    #[test]
    fn a_removal_that_was_never_committed_frees_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        known.meet("n2", &hello(None, 7), ANY).unwrap();
        known.members_are(&BTreeMap::from([("n1", true)])).unwrap();
        known.members_are(&BTreeMap::from([("n1", true), ("n2", true)])).unwrap();
        assert!(matches!(known.meet("n2", &hello(None, 8), ANY), Err(Stranger::OtherIncarnation { .. })));
        known.meet("n2", &hello(None, 7), ANY).unwrap();
    }

    /// A node that was down while a member was removed and added again hears of the outcome only.
    #[test]
    fn a_seat_for_one_incarnation_outranks_what_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        known.meet("n2", &hello(None, 7), ANY).unwrap();
        let seat = Seat::of("127.0.0.1:1#0000000000000008");
        assert_eq!((seat.addr.as_str(), seat.incarnation), ("127.0.0.1:1", Some(Token(8))));
        assert!(matches!(known.meet("n2", &hello(None, 7), Some(&seat)), Err(Stranger::OtherIncarnation { .. })));
        known.meet("n2", &hello(None, 8), Some(&seat)).unwrap();
        assert!(matches!(known.meet("n2", &hello(None, 7), ANY), Err(Stranger::OtherIncarnation { .. })));
        for text in ["", "127.0.0.1:1", "a:1#b", "127.0.0.1:1#0000000000000008"] {
            assert_eq!(Seat::of(text).to_string(), text);
        }
    }

    #[test]
    fn the_cluster_speaks_for_a_node_of_which_nobody_has_told_yet() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        assert!(matches!(known.meet("n4", &hello(None, 7), None), Err(Stranger::NotAMember { .. })));
        assert!(matches!(known.meet("n4", &hello(Some(99), 7), None), Err(Stranger::NotAMember { .. })));
        known.belong_to(Token(99)).unwrap();
        assert!(matches!(known.meet("n4", &hello(None, 7), None), Err(Stranger::NotAMember { .. })));
        assert!(matches!(known.meet("n4", &hello(Some(98), 7), ANY), Err(Stranger::OtherCluster { .. })));
        known.meet("n4", &hello(Some(99), 7), None).unwrap();
        assert!(matches!(known.belong_to(Token(98)), Err(Stranger::OtherCluster { .. })));
        assert_eq!(open(dir.path()).hello(), hello(Some(99), HERE.0));
    }

    #[test]
    fn what_cannot_be_written_down_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        fs::create_dir(dir.path().join("peers.json.tmp")).unwrap(); // in the way
        assert!(matches!(known.meet("n2", &hello(None, 7), ANY), Err(Stranger::Forgetful { .. })));
        fs::remove_dir(dir.path().join("peers.json.tmp")).unwrap();
        known.meet("n2", &hello(None, 8), ANY).expect("nobody remembers the first");
    }

    #[test]
    fn a_newer_format_and_a_damaged_book_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, r#"{"format":3,"whatever":"it holds"}"#).unwrap();
        assert!(matches!(try_open(dir.path()), Err(DataDirError::Newer { path, format: 3, .. }) if path == file));
        for damaged in ["", "{", r#"{"format":1,"cluster":"12","peers":{}}"#] {
            fs::write(&file, damaged).unwrap();
            assert!(matches!(try_open(dir.path()), Err(DataDirError::Damaged { .. })), "{damaged}");
        }
    }

    #[test]
    fn the_last_refusal_of_each_peer_is_told_until_it_takes_this_node() {
        let dir = tempfile::tempdir().unwrap();
        let known = open(dir.path());
        assert_eq!(known.refusal(), None);
        known.refused_by("n2", Some("first"));
        known.refused_by("n2", Some("no"));
        assert_eq!(known.refusal().as_deref(), Some("refused by n2: no"));
        known.refused_by("n2", None);
        assert_eq!(known.refusal(), None);
    }
}
