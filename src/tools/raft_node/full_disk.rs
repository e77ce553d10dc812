//! What a node does when its disk is full: it shortens its log, once, with the space that was kept back for that.

use crate::defaults::{COMPACT_PAUSE, RESERVE_PAUSE};
use crate::http::raft::Api;
use crate::kv::RaftKv;
use crate::net::disk::Reserve;
use crate::net::driver::{Handle, Stopped};

/// Tells `reserve` how much a snapshot takes, and writes one when the space has been given back; until the node ends.
pub(super) async fn compact(reserve: Reserve, node: Handle<RaftKv>, api: Api) {
    loop {
        tokio::select! {
            () = reserve.spent() => {
                tracing::warn!(
                    "the disk is full: gave back what was kept for that, and writes a snapshot to shorten the log; free some space"
                );
                loop {
                    match api.compact().await {
                        Ok(true) => break,
                        Ok(false) => tokio::time::sleep(COMPACT_PAUSE).await,
                        Err(Stopped) => return,
                    }
                }
                tracing::info!("the log begins with a new snapshot; older segments make room");
            }
            () = tokio::time::sleep(RESERVE_PAUSE) => match node.inspect(|machine| machine.state().snapshot_bytes()).await {
                Ok(bytes) => reserve.is_for(bytes),
                Err(Stopped) => return,
            },
        }
    }
}
