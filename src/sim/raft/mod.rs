//! Raft in the simulated world.
//!
//! - [`cluster`]: a key-value cluster as a scenario, with its `clients`, its `operator`, and `checker` and `kv_model`, which know
//!   what must always hold;
//! - [`wipes`]: the same where nodes lose their disks, and what keeps them from beginning anew;
//! - [`script`]: bare nodes that do what a script says, one command at a time;
//! - [`observe`]: machines and messages in words.

mod checker;
mod clients;
pub mod cluster;
mod kv_model;
pub mod observe;
mod operator;
pub mod script;
pub mod wipes;
