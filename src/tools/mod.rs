//! One file or folder a tool: its arguments, and what it does with the rest of the library.

pub mod raft_ctl;
pub mod raft_node;
