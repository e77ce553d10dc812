//! The driver for the real world: sockets, a disk, and time that passes.
//!
//! One task, [`driver::Driver`], owns the machine. It drains its queue, steps every input, hands the records to the
//! disk thread ([`writer`]) and messages to one [`link`] a peer, and lets go what waited for the disk. Everything else
//! runs on the same single-threaded runtime, so that a request crosses no thread but the disk's.
//!
//! - [`driver`]: the task, and the [`driver::Handle`] with which others reach it;
//! - [`link`]: messages to and from one peer over a byte stream;
//! - [`links`]: one a peer, as they come and go;
//! - [`disk`]: the durable log;
//! - [`writer`]: the thread that writes it;
//! - [`address`]: names and addresses, as every tool reads them;
//! - [`tcp`]: connecting, binding and accepting, for every tool;
//! - [`place`]: where the others reach a server;
//! - [`data_dir`]: whose data a directory holds;
//! - [`starts`]: how a directory is told from a copy of it;
//! - [`token`]: random numbers that name directories and clusters;
//! - [`known_peers`]: whom this node has met, whom it does not take for them, and whether it may begin.

pub mod address;
pub mod bind;
pub mod disk;
pub mod driver;
pub mod identity;
pub mod link;
pub mod links;
pub mod node;
pub mod place;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod writer;
