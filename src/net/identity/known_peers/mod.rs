//! Whom this node has met: so that a node which lost its past cannot pass for the one that had it.
//!
//! A vote that was given must be remembered, and so must an entry that was acknowledged. A member whose data directory was
//! wiped remembers neither, and comes back under its old name: it would vote twice in a term, and elect a leader that lacks
//! what it had vouched for. So each data directory has a random number, its *incarnation*. Nodes tell it to each other when
//! they connect, and each keeps in `peers.json` the one that it knows every other by.
//!
//! It keeps the latest [start](super::boot_history), too, that it was told of. Another incarnation under the same name is refused,
//! until that name has been removed from the members. A node that joins says its incarnation when it asks to be added, and gets a
//! [`MemberAddr`] for that one only, which every member learns from the log. The cluster has a random number, too, so that nodes
//! of two clusters whose addresses got mixed up do not talk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::boot_history::BootHistory;
use super::files::DataDirError;
use super::random_id::{MemberAddr, RandomId};
use crate::defaults::MAX_KNOWN;
use crate::founding;
use crate::net::writer::DiskMetrics;

mod bootstrap;
mod hello;
mod peer_rejected;
mod peers_file;
mod refusals;

pub use hello::{Hello, Known};
pub use peer_rejected::PeerRejected;

use bootstrap::{Bootstrap, Heard};
use peers_file::{Peer, PeersFile};
use refusals::Refusals;

/// The nodes that this one has met.
#[derive(Debug)]
pub struct KnownPeers {
    dir: PathBuf,
    me: String,
    incarnation: RandomId,
    starts: Mutex<BootHistory>,
    file: Mutex<PeersFile>,
    /// What a node waits for that has not begun; locked after the file.
    bootstrap: Mutex<Option<Bootstrap>>,
    has_begun: watch::Sender<bool>,
    /// By which of its starts the members know this node, as far as they have said; None before they have.
    remembered: Mutex<BTreeMap<String, Option<u64>>>,
    refusals: Mutex<Refusals>,
    disk: OnceLock<DiskMetrics>,
}

impl KnownPeers {
    /// Those of node `me`, whose data directory is `dir`, and has this incarnation and these starts.
    ///
    /// # Errors
    /// When the file is damaged or of a newer format, or the disk refuses.
    pub fn open(dir: &Path, me: &str, incarnation: RandomId, starts: BootHistory) -> Result<Self, DataDirError> {
        let file = PeersFile::read(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            me: me.to_owned(),
            incarnation,
            starts: Mutex::new(starts),
            file: Mutex::new(file),
            bootstrap: Mutex::new(None),
            has_begun: watch::Sender::new(true),
            remembered: Mutex::default(),
            refusals: Mutex::default(),
            disk: OnceLock::new(),
        })
    }

    /// How the disk does that has the file: while it stands still nothing is written, since the node would stand still, too.
    pub fn watch(&self, disk: DiskMetrics) {
        drop(self.disk.set(disk));
    }

    fn stands_still(&self) -> Option<String> {
        self.disk.get().and_then(DiskMetrics::stands_still)
    }

    /// The random number of this node's data directory.
    pub const fn incarnation(&self) -> RandomId {
        self.incarnation
    }

    /// The cluster this node belongs to, once it is known.
    pub fn cluster(&self) -> Option<RandomId> {
        self.file().cluster
    }

    /// This node belongs to that cluster, for ever.
    ///
    /// # Errors
    /// When the disk refuses, and when it belongs to another.
    pub fn set_cluster(&self, cluster: RandomId) -> Result<(), PeerRejected> {
        let mut file = self.file();
        match file.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(ours) => Err(PeerRejected::OtherCluster {
                me: self.me.clone(),
                peer: "the log".to_owned(),
                ours,
                theirs: cluster,
            }),
            None => self.keep(&mut file, "its cluster", |file| file.cluster = Some(cluster)),
        }
    }

    /// What this node says of itself to `peer`, which asks for that start.
    pub fn hello(&self, peer: &str, asked: Option<u64>) -> Hello {
        let file = self.file();
        let known = file.peers.get(peer).filter(|known| !known.removed);
        let starts = lock(&self.starts);
        Hello {
            cluster: file.cluster,
            incarnation: self.incarnation,
            starts: starts.latest_told(),
            proof: asked.and_then(|number| starts.of(number)),
            has_begun: Some(!self.is_new()),
            knows: known
                .map(|known| Known { incarnation: known.incarnation, start: known.start.map(|start| start.number) }),
        }
    }

    /// The start of this node by which whoever said that knows it, if it has to be told and can be.
    pub fn asked(&self, hello: &Hello) -> Option<u64> {
        let number = hello.knows.filter(|known| known.incarnation == self.incarnation)?.start?;
        let starts = lock(&self.starts);
        (starts.of(number).is_some() && starts.latest_told().of(number).is_none()).then_some(number)
    }

    /// A node says that it is `peer`, of which the members say this, or nothing. What is new about a member is durable
    /// before this returns, and so before any of its messages is taken; that takes as long as an fsync, once a start. On a full
    /// disk, a start of a peer that is known is remembered until this node ends.
    ///
    /// # Errors
    /// Why it is not to be spoken to.
    pub fn meet(&self, peer: &str, hello: &Hello, member: Option<&MemberAddr>) -> Result<(), PeerRejected> {
        self.take(peer, hello, member)?;
        lock(&self.refusals).takes(peer);
        self.note_what_is_remembered(peer, hello);
        Ok(())
    }

    fn take(&self, peer: &str, hello: &Hello, member: Option<&MemberAddr>) -> Result<(), PeerRejected> {
        let (me, name) = (self.me.clone(), peer.to_owned());
        let mut file = self.file();
        if let (Some(ours), Some(theirs)) = (file.cluster, hello.cluster)
            && ours != theirs
        {
            return Err(PeerRejected::OtherCluster { me, peer: name, ours, theirs });
        }
        let known = file.peers.get(peer);
        let same = known.filter(|known| known.incarnation == hello.incarnation && !known.removed);
        let start = same.and_then(|known| known.start);
        if let Some(start) = start.filter(|start| !hello.proves(*start)) {
            return Err(PeerRejected::OtherPast { me, peer: name, start: start.number });
        }
        let start = Some(hello.starts.latest());
        let is_known = same.is_some_and(|known| known.start == start);
        let met_early = member.is_none() && same.is_none_or(|known| known.met_early);
        let met = Peer { incarnation: hello.incarnation, start, removed: false, met_early };
        let remembered = known.filter(|known| !known.removed).map(|known| known.incarnation.0);
        let said = hello.introduction();
        let is_taken = founding::takes(!self.is_new(), remembered, file.awaited.contains(peer), &said);
        match (member, known) {
            (None, Some(known)) if known.removed && known.incarnation == hello.incarnation => {
                Err(PeerRejected::Removed { me, peer: name })
            }
            // A member of this very cluster may call before this node has heard of it. It is remembered all the same: as
            // soon as it is heard of, nobody else may have its name.
            (None, known) if hello.cluster.is_some() && hello.cluster == file.cluster => {
                if is_known || known.is_some_and(|known| known.removed) {
                    return Ok(());
                }
                if file.peers.len() >= MAX_KNOWN {
                    return Err(PeerRejected::NotAMember { me, peer: name });
                }
                self.remember(&mut file, name, met)
            }
            (None, _) => Err(PeerRejected::NotAMember { me, peer: name }),
            (Some(MemberAddr { incarnation: Some(wanted), .. }), _) if *wanted == hello.incarnation && !is_known => {
                self.remember(&mut file, name, met)
            }
            (Some(MemberAddr { incarnation, .. }), _)
                if incarnation.is_some_and(|it| it != hello.incarnation) || !is_taken =>
            {
                Err(if said.has_begun {
                    PeerRejected::OtherIncarnation { me, peer: name }
                } else {
                    PeerRejected::Emptied { me, peer: name, cluster: file.cluster }
                })
            }
            (Some(_), Some(_)) if is_known => Ok(()),
            (Some(_), _) => self.remember(&mut file, name, met),
        }
    }

    /// A member says by which start it knows this node: what is older than all members know can be forgotten.
    fn note_what_is_remembered(&self, peer: &str, hello: &Hello) {
        let mut remembered = lock(&self.remembered);
        let Some(said) = remembered.get_mut(peer) else { return };
        *said = match hello.knows {
            Some(known) if known.incarnation == self.incarnation => known.start,
            Some(_) | None => None,
        };
        let oldest = remembered.values().copied().min().flatten(); // None is less than any number
        if let Some(oldest) = oldest
            && self.stands_still().is_none()
            && let Err(why) = lock(&self.starts).forget_before(oldest, &self.dir)
        {
            tracing::debug!("the marks of old starts stay: {why}");
        }
    }

    fn remember(&self, file: &mut PeersFile, peer: String, met: Peer) -> Result<(), PeerRejected> {
        let kept = self.keep(file, &peer, |file| {
            file.awaited.remove(&peer);
            file.peers.insert(peer.clone(), met.clone());
        });
        match (kept, file.peers.get(&peer)) {
            (Err(why), Some(known)) if known.incarnation == met.incarnation && known.removed == met.removed => {
                tracing::warn!("{why}; a copy of its disk would not be noticed after a restart of this node");
                file.peers.insert(peer, met);
                Ok(())
            }
            (kept, _) => kept,
        }
    }

    /// Whether `peer`, a member that may be of any incarnation, may be of this one.
    pub fn may_take_name(&self, peer: &str, incarnation: RandomId) -> bool {
        self.file().peers.get(peer).is_none_or(|known| known.removed || known.incarnation == incarnation)
    }

    /// Who `peer` is not, for those who ask on its behalf.
    pub fn other_incarnation(&self, peer: &str) -> PeerRejected {
        PeerRejected::OtherIncarnation { me: self.me.clone(), peer: peer.to_owned() }
    }

    /// These are the members now, and whether they vote: whoever was one is told that it is none. A name that comes back as a
    /// learner was added again, and may be taken by a new node; one that comes back as a voter never left, since its removal
    /// was not committed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_members(&self, members: &BTreeMap<&str, bool>) -> Result<(), PeerRejected> {
        lock(&self.remembered).retain(|name, _| members.contains_key(name.as_str()));
        for name in members.keys().filter(|name| **name != self.me) {
            lock(&self.remembered).entry((*name).to_owned()).or_default();
        }
        let mut file = self.file();
        let is_up_to_date = |(name, peer): (&String, &Peer)| {
            let is_member = members.contains_key(name.as_str());
            if peer.met_early { !is_member } else { is_member != peer.removed }
        };
        if file.peers.iter().all(is_up_to_date) {
            return Ok(());
        }
        self.keep(&mut file, "the members", |file| {
            file.peers.retain(|name, peer| !(peer.removed && members.get(name.as_str()) == Some(&false)));
            for (name, peer) in &mut file.peers {
                let is_member = members.contains_key(name.as_str());
                peer.met_early &= !is_member;
                peer.removed = !is_member && !peer.met_early;
            }
        })
    }

    /// From now on nothing is known of the starts of `peer`: the next that comes with its incarnation is taken for it, copy or
    /// original. False when it is not known at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn vouch(&self, peer: &str) -> Result<bool, PeerRejected> {
        let mut file = self.file();
        if file.peers.get(peer).is_none_or(|known| known.removed) {
            return Ok(false);
        }
        self.keep(&mut file, peer, |file| {
            if let Some(known) = file.peers.get_mut(peer) {
                known.start = None;
            }
        })?;
        Ok(true)
    }

    /// Whether the node had to wait for its peers once, and has begun.
    pub fn has_waited(&self) -> bool {
        self.file().begun
    }

    /// The node has an empty directory, and waits for these peers to say that they are as new. `they_have_no_data`: an operator
    /// says so of those that are not there to do it.
    #[must_use]
    pub fn waiting_for(self, peers: BTreeSet<String>, they_have_no_data: bool) -> Self {
        self.has_begun.send_replace(false);
        *lock(&self.bootstrap) = Some(Bootstrap::new(peers, they_have_no_data));
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
        if !lock(&self.bootstrap).as_ref().is_some_and(|bootstrap| bootstrap.has_heard(peer)) {
            self.note(peer, Heard::Nothing);
        }
    }

    fn note(&self, peer: &str, heard: Heard) {
        if !self.is_new() {
            return;
        }
        let mut file = self.file();
        let mut slot = lock(&self.bootstrap);
        let Some(bootstrap) = slot.as_mut() else { return };
        bootstrap.note(peer, heard);
        if !bootstrap.may_begin(&file) {
            return;
        }
        let awaited = bootstrap.unheard();
        let kept = self.keep(&mut file, "that it has begun", |file| {
            file.begun = true;
            file.awaited.clone_from(&awaited);
        });
        match kept {
            Ok(()) if awaited.is_empty() => tracing::info!("{} begins: each peer is as new, or knows it", self.me),
            Ok(()) => tracing::warn!(
                "{} begins without {}, as --peers-have-no-data says",
                self.me,
                awaited.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
            Err(why) => {
                bootstrap.fail(why.to_string());
                return;
            }
        }
        *slot = None;
        drop((slot, file));
        self.has_begun.send_replace(true);
    }

    /// What a node waits for that has not begun.
    pub fn waits_for(&self) -> Option<String> {
        let slot = lock(&self.bootstrap);
        slot.as_ref().map(|bootstrap| bootstrap.waits_for(&self.me, &lock(&self.refusals)))
    }

    /// `peer` does not take this node, and says why; or it does.
    pub fn refused_by(&self, peer: &str, why: Option<&str>) {
        lock(&self.refusals).refused_by(peer, why);
    }

    /// Why this node serves nobody, as far as that is known: it has not begun, or is refused, or refuses members that have lost
    /// their data.
    pub fn refusal(&self) -> Option<String> {
        self.waits_for().or_else(|| lock(&self.refusals).first())
    }

    /// Who refuses this node, and what he says.
    pub fn refusals(&self) -> BTreeMap<String, String> {
        lock(&self.refusals).of_this().clone()
    }

    /// Whom this node refuses, and why.
    pub fn turned_away(&self) -> BTreeMap<String, String> {
        lock(&self.refusals).of_others().clone()
    }

    /// This node refuses `peer`: says so in the log, once, as those who are refused try again.
    pub fn turn_away(&self, peer: &str, why: &PeerRejected) {
        lock(&self.refusals).turn_away(peer, why);
    }

    /// This node does not listen to `peer` any more: says so once, unless `peer` was there for a while, and so may be again.
    pub fn hung_up(&self, peer: &str, why: &str, was_there: bool) {
        lock(&self.refusals).hung_up(peer, why, was_there);
    }

    /// Changes the file, on the disk first.
    fn keep(&self, file: &mut PeersFile, what: &str, change: impl FnOnce(&mut PeersFile)) -> Result<(), PeerRejected> {
        if let Some(why) = self.stands_still() {
            return Err(PeerRejected::Forgetful { me: self.me.clone(), peer: what.to_owned(), why });
        }
        let mut changed = file.clone();
        change(&mut changed);
        changed.write(&self.dir).map_err(|error| PeerRejected::Forgetful {
            me: self.me.clone(),
            peer: what.to_owned(),
            why: error.to_string(),
        })?;
        *file = changed;
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, PeersFile> {
        lock(&self.file)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
