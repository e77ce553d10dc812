//! Raft and the replicated state as one protocol machine.
//!
//! A request has a deadline and goes through stages. It waits until a leader is known; a read is then served by
//! Raft's read index on this node; a write is proposed, or forwarded to the leader. When its leader is gone and nobody
//! can tell whether it was done, a write with a session is tried again with the next leader, which the session makes
//! safe; one without is never tried again. When the outcome stays unknown, the answer says so.
//!
//! The first leader that commits an entry gives the cluster its id.
//!
//! | what | where |
//! |---|---|
//! | what is asked, answered and said to other nodes | [`message`](self), [`wire`](self) |
//! | the state of a node | [`node`](self), [`snapshots`](self), [`forwards`](self) |
//! | requests of its application, and those of other nodes | [`requests`](self), [`forwarding`](self) |
//! | what Raft tells, what is applied | [`raft_events`](self), [`ready`](self) |
//! | its own snapshot, those from and to other nodes, backups | [`own_snapshot`](self), [`install`](self), [`backups`](self) |
//! | after a restart | [`recovery`](self) |

use crate::node_id::NodeId;
use crate::protocol::{Effects, Input, Protocol, Time};
use crate::raft::{self, Raft};

mod backups;
mod forwarding;
mod forwards;
mod install;
mod message;
mod node;
mod own_snapshot;
mod raft_events;
mod ready;
mod recovery;
mod requests;
mod snapshots;
#[cfg(test)]
mod tests;
mod wire;

pub use message::{
    Administration, Answer, Ask, Command, Event, Forwarding, Message, OpenedView, Query, RequestError, RequestId, Timer,
};
pub use node::{Counters, RaftKv};
pub use recovery::{RecoverError, Recovery};
pub use wire::PROTOCOL;

impl Protocol for RaftKv {
    type Peer = NodeId;
    type Message = Message;
    type Command = Command;
    type Timer = Timer;
    type Record = raft::Record;
    type Event = Event;

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Started => {
                out.emit(Event::Changed { through: self.store().version() }); // what its snapshot holds
                self.step_raft(now, Input::Started, out);
            }
            Input::Received { from, message: Message::Raft(message) } => {
                if self.read_part(now, from, &message, out) {
                    self.step_raft(now, Input::Received { from, message }, out);
                }
            }
            Input::Received { from, message: Message::Administer { id, term, what } } => {
                self.on_administer(now, from, id, term, what, out);
            }
            Input::Received { from, message: Message::Forward { id, term, request } } => {
                self.on_forward(now, from, id, term, request, out);
            }
            Input::Received { from: _, message: Message::Forwarded { id, term, result } } => {
                self.on_forwarded(now, id, term, result, out);
            }
            Input::Elapsed(Timer::Raft(timer)) => self.step_raft(now, Input::Elapsed(timer), out),
            Input::Synced { took, more } => self.step_raft(now, Input::Synced { took, more }, out),
            Input::Elapsed(Timer::Deadline) => self.on_deadline(now, out),
            Input::Elapsed(Timer::Snapshot) => self.go_on_with_snapshot(now, out),
            Input::Requested(command) => self.on_request(now, command, out),
        }
        self.forget_incoming();
        self.begin_snapshot_if_due(now, out);
    }

    fn record_bytes(record: &raft::Record) -> usize {
        Raft::record_bytes(record)
    }
}
