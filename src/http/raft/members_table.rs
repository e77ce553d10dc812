//! Who the members are, where they are dialled, and the links to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::defaults::LEAVE_PAUSE;
use crate::http::upgrade::Version;
use crate::net::identity::known_peers::{KnownPeers, PeerRejected};
use crate::net::identity::random_id::MemberAddr;
use crate::net::link::Outbox;
use crate::net::links::Links;
use crate::net::peer_addrs::PeerAddrs;
use crate::node_id::NodeId;
use crate::raft::Configuration;

/// Who the members are, and where they are dialled.
#[derive(Debug)]
pub struct Members {
    id: NodeId,
    known_peers: Arc<KnownPeers>,
    links: Links<NodeId>,
    /// Where the peer that was connected to last was told that this node is.
    reached: Mutex<Option<String>>,
    view: watch::Sender<View>,
}

#[derive(Clone, Debug)]
struct View {
    configuration: Configuration,
    /// What is said of where they are beside the configuration.
    addrs: PeerAddrs<NodeId>,
    /// Those that were members a moment ago, and where: they may have to hear of their removal, and to say who shall lead.
    leaving: BTreeMap<NodeId, String>,
    /// Which netbelt they run, of those that say so.
    versions: BTreeMap<NodeId, Version>,
}

impl Members {
    /// Those of node `id`, to which these links lead; some are where the operator has said.
    ///
    /// # Errors
    /// When the disk refuses to remember who is none any more.
    pub fn new(
        id: NodeId,
        configuration: Configuration,
        given: BTreeMap<NodeId, String>,
        known_peers: Arc<KnownPeers>,
        links: Links<NodeId>,
    ) -> Result<Self, PeerRejected> {
        let view = watch::Sender::new(View {
            configuration: Configuration::default(),
            addrs: PeerAddrs::given(given),
            leaving: BTreeMap::new(),
            versions: BTreeMap::new(),
        });
        let members = Self { id, known_peers, links, reached: Mutex::default(), view };
        members.set_configuration(configuration)?;
        Ok(members)
    }

    /// These are the members from now on.
    ///
    /// # Errors
    /// When the disk refuses to remember who is none any more.
    pub fn set_configuration(&self, configuration: Configuration) -> Result<(), PeerRejected> {
        let members = configuration.members();
        if !members.is_empty() {
            let voters: BTreeMap<_, _> = members.iter().map(|(id, member)| (id.as_str(), member.voter)).collect();
            self.known_peers.set_members(&voters)?;
        }
        self.view.send_modify(|view| {
            let gone = |id: &NodeId| view.configuration.contains(*id) && !configuration.contains(*id);
            let addr = |of: &Configuration, id: &NodeId| of.members().get(id).map(|member| member.addr.clone());
            let before = self.addresses(view);
            view.leaving.extend(before.into_iter().filter(|(id, _)| gone(id)));
            view.leaving.retain(|id, _| !configuration.contains(*id));
            view.versions.retain(|id, _| !gone(id));
            let has_moved = |id: &NodeId| {
                addr(&view.configuration, id).is_some_and(|before| addr(&configuration, id) != Some(before))
            };
            view.addrs.forget(|id| gone(&id), |id| has_moved(&id));
            view.configuration = configuration;
        });
        Ok(())
    }

    /// This node.
    pub(super) const fn id(&self) -> NodeId {
        self.id
    }

    /// Where the configuration says that a member is, and which data directory it has.
    pub(super) fn member_addr(&self, id: NodeId) -> Option<MemberAddr> {
        self.view.borrow().configuration.members().get(&id).map(|member| MemberAddr::of(&member.addr))
    }

    /// Whom this node has met.
    pub fn known_peers(&self) -> &KnownPeers {
        &self.known_peers
    }

    /// The links to them.
    pub(super) const fn links(&self) -> &Links<NodeId> {
        &self.links
    }

    /// From now on this node neither speaks to these nor hears them, and all others again.
    pub(super) fn cut(&self, peers: BTreeSet<NodeId>) {
        self.view.send_modify(|view| view.addrs.cut(peers));
    }

    /// Whether this node is to ignore `id`.
    pub(super) fn is_cut(&self, id: NodeId) -> bool {
        self.view.borrow().addrs.is_cut(id)
    }

    /// Waits until this node is to ignore `id`.
    pub(super) async fn cut_off(&self, id: NodeId) {
        let _ = self.view.subscribe().wait_for(|view| view.addrs.is_cut(id)).await; // the sender is part of this
    }

    /// A node that was let in says where it is.
    pub(super) fn note_addr(&self, from: NodeId, addr: &str) {
        self.view.send_if_modified(|view| view.addrs.called(from, addr));
    }

    /// A peer was told that this node is there.
    pub fn reached_at(&self, addr: String) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// Where this node is, which listens on `own_addr`, as far as it knows.
    pub(super) fn own_addr(&self, own_addr: &str) -> String {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.clone().unwrap_or_else(|| own_addr.to_owned())
    }

    /// A node that was met runs that netbelt.
    pub(super) fn note_version(&self, id: NodeId, version: Option<Version>) {
        self.view.send_if_modified(|view| {
            match version {
                Some(version) => _ = view.versions.insert(id, version),
                None => _ = view.versions.remove(&id),
            }
            false // nobody waits for that
        });
    }

    /// Which netbelt those run that say so.
    pub(super) fn versions(&self) -> BTreeMap<NodeId, Version> {
        self.view.borrow().versions.clone()
    }

    /// Keeps a link to each of them that can be dialled, for ever.
    pub async fn follow<F>(&self, keep_up: impl Fn(NodeId, String, Arc<Outbox>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut views = self.view.subscribe();
        loop {
            let wanted = self.addresses(&views.borrow_and_update());
            self.links.set(&wanted, &keep_up);
            let leaving = views.borrow().leaving.clone();
            let changed = views.changed();
            if leaving.is_empty() {
                let _ = changed.await; // the sender is part of this
            } else if tokio::time::timeout(LEAVE_PAUSE, changed).await.is_err() {
                self.view.send_modify(|view| view.leaving.retain(|id, _| !leaving.contains_key(id)));
            }
        }
    }

    /// Waits until `id`, which is a member or is about to be one, is none any more, and has had the time to hear of it.
    pub(super) async fn removed(&self, id: NodeId) {
        let mut views = self.view.subscribe();
        for stays in [true, false] {
            let here = |view: &View| view.configuration.contains(id) || view.leaving.contains_key(&id);
            let _ = views.wait_for(|view| here(view) == stays).await; // the sender is part of this
        }
    }

    /// Whether there are none, as for a node that joins at first.
    pub fn is_empty(&self) -> bool {
        self.view.borrow().configuration.members().is_empty()
    }

    fn addresses(&self, view: &View) -> BTreeMap<NodeId, String> {
        let members = view.configuration.members().iter();
        let mut known: BTreeMap<_, _> = members.map(|(id, member)| (*id, MemberAddr::of(&member.addr).addr)).collect();
        known.extend(view.leaving.clone());
        known.remove(&self.id);
        view.addrs.to_dial(known)
    }
}
