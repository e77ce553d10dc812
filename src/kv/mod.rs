//! A replicated key-value store.
//!
//! - [`command`]: what can be asked of the store, and how a command travels in a log entry;
//! - [`store`]: the store itself, a pure state machine: same commands, same answers;
//! - [`raft_kv`]: Raft and the store as one [`Protocol`](crate::protocol::Protocol), with forwarding to the leader.

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

pub mod command;
pub mod raft_kv;
pub mod store;

pub use command::{Command, Condition, Outcome, Versioned};
pub use raft_kv::RaftKv;
pub use store::{Page, Store};
