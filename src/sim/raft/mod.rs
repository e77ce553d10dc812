//! Raft in the simulated world: its clients and operators, what must always hold, and scripts.

mod checker;
pub mod cluster;
mod kv_model;
mod operator;
pub mod script;
pub mod wipes;
