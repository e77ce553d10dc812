//! Who a node is: its directory, the times it was started, and the peers it knows.

pub mod boot_history;
pub mod data_dir;
mod files;
pub mod known_peers;
pub mod random_id;
