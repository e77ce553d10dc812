//! Bully: who leads, by number, as a pure state machine.
//!
//! The source is Garcia-Molina, "Elections in a Distributed Computing System" (IEEE Transactions on Computers C-31, 1982),
//! cited by the names that it gives to its assumptions, assertions and procedures.
//!
//! | the paper's bully algorithm | here |
//! |---|---|
//! | the state vector `S(i)`: status, coordinator, halt | [`Bully`], its role |
//! | procedures Recovery and Timeout: call an election | `start` and `on_silence` in [`election`](self) |
//! | procedure Election: ask who is higher, halt who is lower, NewCoordinator | `stand`, `claim`, `lead` in [`election`](self) |
//! | procedure Check: is anybody missing? | heartbeats, in [`leadership`](self) |
//!
//! # What the classic algorithm promises, and what it does not
//!
//! It rests on two assumptions (the paper's 8 and 9): no message is lost and each arrives within a known time, and no node
//! ever pauses. Where they hold, two nodes that are not in the middle of an election agree on their leader (assertion 1),
//! and the best living node comes to lead (assertion 2). Real networks and machines keep neither: two halves of a cut
//! network have a leader each, and a leader that was paused goes on as one. Terms are one more than the highest that the
//! node has heard of; they are kept in memory. Two leaders that have not heard of each other can have the same term, and
//! after all nodes were down at once terms begin anew: as fencing tokens they are good as long as the assumptions hold.
//!
//! # With a quorum
//!
//! A leader needs durable promises of a majority for its term, and everybody promises a term once. So a term never has two
//! leaders, and a new leader's term is above every earlier leader's: any two majorities share a node. A majority that one
//! can *reach* would not do: when A and B are cut off from each other and C sees both, both reach two of three.
//!
//! Who has promised to a leader, or answers its heartbeat, gives no other promise until [`Config::silence`] after it heard
//! it. A leader counts from when it *spoke*, and stops leading [`Config::lease`] later: [`Bully::leads_until`]. In between
//! lies the grace in which its command ends. A node that starts again waits out a silence, too, for it does not know whom
//! it heard. This needs clocks that run at about the same speed, within a tenth, but not the same time of day, and no bound
//! on delays. A node whose *machine* pauses cannot end its command in time; for that the term is a fencing token.
//!
//! Promises are asked for only when nobody better stands and a majority is willing. A node that is cut off thus raises no
//! term, and does no harm when it comes back.

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

mod config;
mod election;
pub mod invariants;
mod leadership;
mod message;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod types;
pub mod wire;

pub use config::{Config, ConfigError};
pub use message::{Body, Command, Event, Message, Promise, Reason, RoleName, Timer};
pub use state::{Bully, Counters};
pub use types::{Id, InvalidId, Rule, Term, UnknownRule};
