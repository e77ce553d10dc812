//! A replicated key-value store.
//!
//! - [`command`]: what can be asked of it, and how a request travels in a log entry;
//! - [`state`]: the replicated state, pure: same requests, same answers. It is the [`store`] and the [`sessions`], which
//!   make a repeated request harmless, also of a client that they have [`forgotten`];
//! - [`view`], [`snapshot`], [`restore`]: the state as it was at one moment, read while it goes on changing, as bytes, and back;
//! - [`changes`]: the latest changes, for those who watch;
//! - [`raft_kv`]: Raft and the state as one [`Protocol`](crate::protocol::Protocol), with forwarding to the leader.

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

pub mod backup;
pub mod changes;
pub mod command;
pub mod forgotten;
mod key;
pub mod raft_kv;
pub mod restore;
pub mod sessions;
pub mod snapshot;
pub mod state;
pub mod store;
#[cfg(test)]
mod tests;
pub mod view;

pub use changes::{Change, Changes, Gone};
pub use command::{Condition, EncodedRequest, Operation, Outcome, SessionId, SessionRequest, Versioned};
pub use raft_kv::RaftKv;
pub use restore::Restorer;
pub use snapshot::SnapshotError;
pub use state::State;
pub use store::{Page, Store};
pub use view::ViewId;
