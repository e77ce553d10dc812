//! What can be seen of the nodes of a script.

use std::collections::BTreeSet;

use super::answer::{Answer, Field, Known, Refusal, State, Unmet, is_down};
use super::node::number;
use super::nodes::Nodes;
use crate::node_id::NodeId;
use crate::raft::RoleName;
use crate::raft::progress::Flow;
use crate::sim::raft::observe::EntryLabel;

impl Nodes {
    pub(super) fn state(&self, node: usize) -> State {
        let state = &self.nodes[&node];
        let stored = || self.recover(node);
        let asleep;
        let (raft, data) = match &state.host {
            Some(host) => (host.machine(), state.data.clone()),
            None => {
                asleep = stored();
                (&asleep.0, asleep.1.clone())
            }
        };
        let log = raft.log();
        let (first, last) = (log.first_index(), log.last().index);
        let unsynced = state.host.as_ref().is_some_and(|host| !host.is_settled());
        State {
            id: node,
            up: state.host.is_some(),
            role: raft.role().as_str(),
            pre_vote: raft.role() == RoleName::PreCandidate,
            term: raft.hard_state().current_term.0,
            leader: raft.leader().map(number),
            voted_for: raft.hard_state().voted_for.map(number),
            commit: if state.host.is_some() { state.commit.0 } else { raft.commit_index().0 },
            applied: if state.host.is_some() { state.applied.0 } else { raft.last_applied().0 },
            first: first.0,
            last: last.0,
            log: log.between(first.prev(), last).iter().map(EntryLabel::new).collect(),
            members: ids(&mut raft.configuration().members().keys().copied()),
            learners: ids(&mut raft.configuration().members().iter().filter(|(_, m)| !m.voter).map(|(id, _)| *id)),
            data,
            durable: unsynced.then(|| stored().0.log().last().index.0),
        }
    }

    pub(super) fn progress(&self, node: usize) -> Answer {
        let Some(raft) = self.machine(node) else { return is_down(node) };
        let Some(progress) = raft.progress().filter(|_| raft.role() == RoleName::Leader) else {
            return Answer::Refused(Refusal::NotLeader { leader: raft.leader().map(number) });
        };
        let known = progress.iter().filter(|(peer, _)| number(**peer) != node).map(|(peer, progress)| {
            let (flow, in_flight) = match &progress.flow {
                Flow::Probe { awaiting } => ("probe", usize::from(*awaiting)),
                Flow::Replicate { in_flight, .. } => ("replicate", in_flight.len()),
                Flow::Snapshot(_) => ("snapshot", 0),
            };
            let (match_index, next_index) = (progress.match_index.0, progress.next_index.0);
            Known { peer: number(*peer), match_index, next_index, flow, in_flight }
        });
        Answer::Progress { node, known: known.collect() }
    }

    pub(super) fn expect(&self, node: usize, fields: &[(Field, String)]) -> Answer {
        let state = self.state(node);
        let unmet = fields.iter().filter_map(|(field, expected)| {
            let found = state.value(*field, self.latest_reads.get(&node));
            let named =
                |text: &str| text.split(',').map(|node| node.trim_start_matches('n')).collect::<Vec<_>>().join(",");
            // `none` is nobody's name.
            let same = found == *expected || field.is_of_nodes() && expected != "none" && found == named(expected);
            (!same).then(|| Unmet { field: field.name(), expected: expected.clone(), found })
        });
        let unmet: Vec<_> = unmet.collect();
        if unmet.is_empty() { Answer::Done } else { Answer::Unmet(unmet) }
    }
}

fn ids(nodes: &mut dyn Iterator<Item = NodeId>) -> Vec<usize> {
    nodes.map(number).collect::<BTreeSet<_>>().into_iter().collect()
}
