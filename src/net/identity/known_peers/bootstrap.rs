//! What a new node waits for before it begins: the rules are those of [`founding`].

use std::collections::{BTreeMap, BTreeSet};

use super::hello::Hello;
use super::peer_rejected::PeerRejected;
use super::peers_file::PeersFile;
use super::refusals::Refusals;
use crate::defaults::MAX_KNOWN;
use crate::founding::{self, Word};
use crate::net::identity::random_id::RandomId;

/// A node that has not begun.
#[derive(Debug)]
pub(super) struct Bootstrap {
    /// Those that have to vouch for it.
    peers: BTreeSet<String>,
    /// An operator says that none of them has data.
    they_have_no_data: bool,
    /// What was heard last of each, and of others that have data.
    heard: BTreeMap<String, Heard>,
    /// Why it has not begun although it might.
    trouble: Option<String>,
}

/// What was heard of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It could not be reached.
    Nothing,
    /// It is of a version that does not say whether it has data.
    NoWord,
    /// It is as new, and will have met this node when it is asked again.
    NotYet,
    /// It vouches, and has this incarnation.
    Vouched(RandomId),
    /// It has data, of that cluster.
    HasData(Option<RandomId>),
}

impl Heard {
    pub(super) fn from(hello: &Hello, own: RandomId) -> Self {
        match founding::word(own.0, &hello.introduction()) {
            Word::Vouched => Self::Vouched(hello.incarnation),
            Word::NotYet => Self::NotYet,
            Word::HasData if hello.has_begun.is_none() && hello.cluster.is_none() => Self::NoWord,
            Word::HasData => Self::HasData(hello.cluster),
        }
    }
}

impl Bootstrap {
    /// It waits for these peers.
    pub(super) const fn new(peers: BTreeSet<String>, they_have_no_data: bool) -> Self {
        Self { peers, they_have_no_data, heard: BTreeMap::new(), trouble: None }
    }

    /// What `peer` said last.
    pub(super) fn note(&mut self, peer: &str, heard: Heard) {
        let is_peer = self.peers.contains(peer);
        if is_peer || (matches!(heard, Heard::HasData(_)) && self.heard.len() < MAX_KNOWN) {
            self.heard.insert(peer.to_owned(), heard);
        }
    }

    /// Whether `peer` has said what counts, whether it can be reached or not.
    pub(super) fn has_heard(&self, peer: &str) -> bool {
        matches!(self.heard.get(peer), Some(Heard::Vouched(_) | Heard::HasData(_)))
    }

    /// Those for whom an operator speaks.
    pub(super) fn unheard(&self) -> BTreeSet<String> {
        self.peers.iter().filter(|peer| self.is_unheard(peer)).cloned().collect()
    }

    /// It might begin, and cannot.
    pub(super) fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Those of whom nothing is known that would speak against it, if an operator speaks for them.
    fn is_unheard(&self, peer: &str) -> bool {
        self.they_have_no_data && matches!(self.heard.get(peer), Some(Heard::Nothing | Heard::NoWord))
    }

    /// Whether nothing is lacking.
    pub(super) fn may_begin(&self, file: &PeersFile) -> bool {
        let vouched = |peer: &String| match self.heard.get(peer) {
            Some(Heard::Vouched(incarnation)) => Some(incarnation.0),
            Some(Heard::Nothing | Heard::NoWord | Heard::NotYet | Heard::HasData(_)) | None => None,
        };
        let known = |peer: &String| file.peers.get(peer).map(|known| known.incarnation.0);
        let needed = self.peers.iter().filter(|peer| !self.is_unheard(peer));
        let has_data = self.heard.values().any(|heard| matches!(heard, Heard::HasData(_)));
        !has_data && founding::may_begin(needed.map(|peer| (known(peer), vouched(peer))))
    }

    /// What `me` waits for.
    pub(super) fn waits_for(&self, me: &str, refusals: &Refusals) -> String {
        let Self { peers, heard, trouble, .. } = self;
        if let Some(trouble) = trouble {
            return trouble.clone();
        }
        let with_data = heard.iter().find_map(|(peer, heard)| match heard {
            Heard::HasData(cluster) => Some((peer, *cluster)),
            Heard::Nothing | Heard::NoWord | Heard::NotYet | Heard::Vouched(_) => None,
        });
        if let Some((peer, cluster)) = with_data {
            let said = refusals.of_this().get(peer).cloned();
            let why = || PeerRejected::Emptied { me: peer.clone(), peer: me.to_owned(), cluster }.to_string();
            return format!("refused by {peer}: {}; nothing was begun here", said.unwrap_or_else(why));
        }
        let mut is_mistaken = false;
        let missing = peers.iter().filter_map(|peer| {
            let what = match heard.get(peer) {
                Some(Heard::Vouched(_)) => return None,
                Some(Heard::NotYet) => "is about to".to_owned(),
                Some(Heard::NoWord) => "is of an older version, which cannot say so".to_owned(),
                Some(Heard::Nothing | Heard::HasData(_)) | None => match refusals.of_this().get(peer) {
                    Some(why) => {
                        is_mistaken = true;
                        format!("says: {why}")
                    }
                    None => "does not answer".to_owned(),
                },
            };
            Some(format!("{peer} ({what})"))
        });
        let missing: Vec<_> = missing.collect();
        let missing = missing.join(", ");
        let waits = format!(
            "{me} has a new, empty data directory, and begins when each peer has said that it is as new. It waits for {missing}"
        );
        // A peer that is there and says something else is a mistake to be mended, and nothing to be overruled.
        if is_mistaken {
            waits
        } else {
            format!(
                "{waits}: start what is not running. If one cannot be started, and none of them has ever had data, start {me} once \
                 with --peers-have-no-data; if one had, acknowledged writes would be lost"
            )
        }
    }
}
