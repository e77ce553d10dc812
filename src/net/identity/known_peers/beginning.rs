//! What a new node waits for before it begins: the rules are those of [`founding`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Hello, KnownPeers, PeerRejected, PeersFile, RandomId, lock};
use crate::defaults::MAX_KNOWN;
use crate::founding::{self, Word};

/// A node that has not begun.
#[derive(Debug)]
pub(super) struct New {
    /// Those that have to vouch for it.
    peers: BTreeSet<String>,
    /// An operator says that none of them has data.
    they_have_no_data: bool,
    /// What was heard last of each, and of others that have data.
    heard: BTreeMap<String, Heard>,
    /// Why it has not begun although it might.
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
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
    fn from(hello: &Hello, own: RandomId) -> Self {
        match founding::word(own.0, &hello.introduction()) {
            Word::Vouched => Self::Vouched(hello.incarnation),
            Word::NotYet => Self::NotYet,
            Word::HasData if hello.has_begun.is_none() && hello.cluster.is_none() => Self::NoWord,
            Word::HasData => Self::HasData(hello.cluster),
        }
    }
}

impl New {
    /// Those of whom nothing is known that would speak against it, if an operator speaks for them.
    fn is_unheard(&self, peer: &str) -> bool {
        self.they_have_no_data && matches!(self.heard.get(peer), Some(Heard::Nothing | Heard::NoWord))
    }

    fn may_begin(&self, book: &PeersFile) -> bool {
        let vouched = |peer: &String| match self.heard.get(peer) {
            Some(Heard::Vouched(incarnation)) => Some(incarnation.0),
            Some(Heard::Nothing | Heard::NoWord | Heard::NotYet | Heard::HasData(_)) | None => None,
        };
        let known = |peer: &String| book.peers.get(peer).map(|known| known.incarnation.0);
        let needed = self.peers.iter().filter(|peer| !self.is_unheard(peer));
        let has_data = self.heard.values().any(|heard| matches!(heard, Heard::HasData(_)));
        !has_data && founding::may_begin(needed.map(|peer| (known(peer), vouched(peer))))
    }
}

impl KnownPeers {
    /// Whether the node had to wait for its peers once, and has begun.
    pub fn has_waited(&self) -> bool {
        self.book().begun
    }

    /// The node has an empty directory, and waits for these peers to say that they are as new. `they_have_no_data`: an operator
    /// says so of those that are not there to do it.
    #[must_use]
    pub fn waiting_for(self, peers: BTreeSet<String>, they_have_no_data: bool) -> Self {
        self.has_begun.send_replace(false);
        *lock(&self.new) = Some(New { peers, they_have_no_data, heard: BTreeMap::new(), trouble: None });
        self
    }

    /// Whether the node has not begun: it must neither send nor take a message of its protocol.
    pub fn is_new(&self) -> bool {
        !*self.has_begun.borrow()
    }

    /// Waits until it has.
    pub async fn begins(&self) {
        let _ = self.has_begun.subscribe().wait_for(|has_begun| *has_begun).await; // the sender is part of this
    }

    /// What `peer` says of itself, after it was met or refused.
    pub fn heard(&self, peer: &str, hello: &Hello) {
        self.note(peer, Heard::from(hello, self.incarnation));
    }

    /// `peer` could not be reached. What it said before counts all the same.
    pub fn heard_nothing(&self, peer: &str) {
        let has_spoken = |new: &New| matches!(new.heard.get(peer), Some(Heard::Vouched(_) | Heard::HasData(_)));
        if !lock(&self.new).as_ref().is_some_and(has_spoken) {
            self.note(peer, Heard::Nothing);
        }
    }

    fn note(&self, peer: &str, heard: Heard) {
        if !self.is_new() {
            return;
        }
        let mut book = self.book();
        let mut slot = lock(&self.new);
        let Some(new) = slot.as_mut() else { return };
        let is_peer = new.peers.contains(peer);
        if is_peer || (matches!(heard, Heard::HasData(_)) && new.heard.len() < MAX_KNOWN) {
            new.heard.insert(peer.to_owned(), heard);
        }
        if !new.may_begin(&book) {
            return;
        }
        let awaited: BTreeSet<_> = new.peers.iter().filter(|peer| new.is_unheard(peer)).cloned().collect();
        let kept = self.keep(&mut book, "that it has begun", |book| {
            book.begun = true;
            book.awaited.clone_from(&awaited);
        });
        match kept {
            Ok(()) if awaited.is_empty() => tracing::info!("{} begins: each peer is as new, or knows it", self.me),
            Ok(()) => tracing::warn!(
                "{} begins without {}, as --peers-have-no-data says",
                self.me,
                awaited.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
            Err(why) => {
                new.trouble = Some(why.to_string());
                return;
            }
        }
        *slot = None;
        drop((slot, book));
        self.has_begun.send_replace(true);
    }

    /// What a node waits for that has not begun.
    pub fn waits_for(&self) -> Option<String> {
        let slot = lock(&self.new);
        let New { peers, heard, trouble, .. } = slot.as_ref()?;
        let me = &self.me;
        if let Some(trouble) = trouble {
            return Some(trouble.clone());
        }
        let with_data = heard.iter().find_map(|(peer, heard)| match heard {
            Heard::HasData(cluster) => Some((peer, *cluster)),
            Heard::Nothing | Heard::NoWord | Heard::NotYet | Heard::Vouched(_) => None,
        });
        if let Some((peer, cluster)) = with_data {
            let said = lock(&self.refusals).by(peer).cloned();
            let why = || PeerRejected::Emptied { me: peer.clone(), peer: me.clone(), cluster }.to_string();
            return Some(format!("refused by {peer}: {}; nothing was begun here", said.unwrap_or_else(why)));
        }
        let mut is_mistaken = false;
        let missing = peers.iter().filter_map(|peer| {
            let what = match heard.get(peer) {
                Some(Heard::Vouched(_)) => return None,
                Some(Heard::NotYet) => "is about to".to_owned(),
                Some(Heard::NoWord) => "is of an older version, which cannot say so".to_owned(),
                Some(Heard::Nothing | Heard::HasData(_)) | None => match lock(&self.refusals).by(peer) {
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
        Some(if is_mistaken {
            waits
        } else {
            format!(
                "{waits}: start what is not running. If one cannot be started, and none of them has ever had data, start {me} once \
                 with --peers-have-no-data; if one had, acknowledged writes would be lost"
            )
        })
    }
}
