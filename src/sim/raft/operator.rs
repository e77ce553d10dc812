//! Whoever runs a simulated cluster: adds nodes, removes them, hands over leadership, takes snapshots.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::Rng;

use crate::kv::raft_kv::{Administration, Answer, Ask, Command, RaftKv, RequestError, RequestId};
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::raft::{Change, RoleName};
use crate::sim::faults::{Kind, TICK, draw_within, pick};
use crate::sim::world::World;

/// No run has more nodes, those that came and went included.
const MOST_NODES: usize = 15;
const PATIENCE: Duration = Duration::from_secs(1);

/// The faults that it makes.
pub(super) const MEMBERS: Kind = Kind::Own("members");

/// Asks for one thing after another.
pub(super) struct Operator {
    /// When it asks next; None when it does not.
    next_at: Option<Time>,
    /// The mean time between what it asks.
    pace: Duration,
    asked: BTreeMap<RequestId, Option<NodeId>>,
    nodes: usize,
    began_with: usize,
}

impl Operator {
    /// One that asks so often, in millionths a tick.
    pub(super) fn new(nodes: usize, rate: u32) -> Self {
        let pace = TICK.checked_div(rate).map_or(Duration::ZERO, |pace| pace * 1_000_000);
        let next_at = (rate > 0).then_some(Time::ZERO + pace);
        Self { next_at, pace, asked: BTreeMap::new(), nodes, began_with: nodes }
    }

    /// When it asks next.
    pub(super) const fn next_at(&self) -> Option<Time> {
        self.next_at
    }

    /// It asks no more.
    pub(super) fn rest(&mut self) {
        self.next_at = None;
    }

    /// Asks, when it is time.
    pub(super) fn ask(&mut self, world: &mut World<RaftKv>, next_request: &mut u64) {
        let now = world.now();
        if self.next_at.is_none_or(|at| at > now) {
            return;
        }
        self.next_at = Some(now + draw_within(world.rng(), &(Duration::ZERO..=self.pace * 2)));
        let peers = world.peers().to_vec();
        let at = pick(world.rng(), &peers);
        let member = pick(world.rng(), &peers);
        let (ask, removed) = match world.rng().next_u64() % 6 {
            // The cluster neither dwindles nor grows without end.
            0 | 1 if peers.len() > self.began_with => {
                (Ask::Administer(Administration::Change(Change::Remove { node: member })), Some(member))
            }
            0..=2 if self.nodes < MOST_NODES => {
                self.nodes += 1;
                let node = NodeId::numbered(self.nodes);
                world.add(node);
                (Ask::Administer(Administration::Change(Change::Add { node, addr: String::new() })), None)
            }
            3 => (Ask::Administer(Administration::Transfer(Some(member))), None),
            _ => (Ask::Snapshot, None),
        };
        world.count(MEMBERS);
        let id = RequestId(*next_request);
        *next_request += 1;
        if world.request(at, Command { id, ask, timeout: PATIENCE }) {
            self.asked.insert(id, removed);
        }
    }

    /// Whether the answer is to it. A node that is removed for certain is switched off.
    pub(super) fn on_answer(
        &mut self,
        id: RequestId,
        answer: &Result<Answer, RequestError>,
        world: &mut World<RaftKv>,
    ) -> bool {
        let Some(removed) = self.asked.remove(&id) else { return false };
        if let (Some(node), Ok(Answer::Done)) = (removed, answer) {
            world.retire(node);
        }
        true
    }
}

/// The nodes that are not, or no longer, members of a cluster whose leader has committed its members.
pub(super) fn outsiders(world: &World<RaftKv>) -> Vec<NodeId> {
    let leaders = world.machines().map(RaftKv::raft).filter(|raft| raft.role() == RoleName::Leader);
    let Some(leader) = leaders.max_by_key(|raft| raft.hard_state().current_term) else { return Vec::new() };
    // Until it has committed an entry of its own term, it may be a leader of the past.
    let commit = leader.log().position(leader.commit_index());
    let is_known = commit.is_some_and(|position| position.term == leader.hard_state().current_term)
        && leader.log().configuration_position().index <= leader.commit_index();
    let outside = |node: &NodeId| is_known && !leader.configuration().contains(*node);
    world.peers().iter().copied().filter(outside).collect()
}
