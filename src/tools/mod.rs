//! One file or folder a tool: its arguments, and what it does with the rest of the library.

pub mod raft_ctl;
pub mod raft_node;
pub mod tcp_echo;
pub mod udp_listen;
pub mod udp_send;
pub mod worker_pool;
