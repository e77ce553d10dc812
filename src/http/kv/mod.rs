//! What the HTTP ports of all key-value stores share.
//!
//! - `keys`: keys, values and conditions in requests;
//! - `items`: what is answered of them;
//! - `watchers`: those who watch changes: `teller` tells them all, `pages` encodes.

pub(super) mod items;
pub(super) mod keys;
mod pages;
mod teller;
pub(super) mod watchers;

pub use keys::IDEMPOTENCY_KEY;
