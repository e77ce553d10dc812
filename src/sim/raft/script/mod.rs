//! A cluster of bare Raft nodes that does what a script says, one command at a time, and nothing by chance.
//!
//! Messages wait until they are delivered. A disk is done at once, unless it is held. Time stands still until it elapses,
//! and each node has a clock of its own. The application of each node is the list of commands it has applied. The
//! invariants are checked after each command ([`invariants`](crate::raft::invariants), and a checker that remembers the whole run).
//!
//! What can be seen of a node is what a machine shows that writes its disk synchronously and happens to be slow: with a
//! held disk, it neither commits nor speaks on the strength of what is not durable.
//!
//! - `command`: the lines, `answer`: what they come to, `play`: from one to the other;
//! - `node`, `network`, `nodes`: a node, messages in flight, and what happens among them;
//! - `view`: what can be seen of nodes, `recorder`: the trace.

mod answer;
mod command;
mod network;
mod node;
mod nodes;
mod play;
mod recorder;
mod view;

pub use answer::{Answer, Field, Known, ReadAnswer, Refusal, State, Unmet, Violation};
pub use command::{Alarm, Command, LONGEST_ELAPSE, Link, MOST_NODES, Setting};
pub use play::Script;
