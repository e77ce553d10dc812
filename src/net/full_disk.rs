//! What a node does when its disk is full: it shortens its log, once, with the space that was kept back for that.

use super::disk::Reserve;
use super::driver::Stopped;
use crate::defaults::{COMPACT_PAUSE, RESERVE_PAUSE};

/// Tells `reserve` how many bytes a snapshot takes, and has the log shortened by one when the space has been given back; until
/// the node ends. `shorten` says whether it has done so; if not, it is asked again.
pub async fn compact(
    reserve: Reserve,
    snapshot_bytes: impl AsyncFn() -> Result<u64, Stopped>,
    shorten: impl AsyncFn() -> Result<bool, Stopped>,
) {
    loop {
        tokio::select! {
            () = reserve.spent() => {
                tracing::warn!(
                    "the disk is full: gave back what was kept for that, and writes a snapshot to shorten the log; free some space"
                );
                loop {
                    match shorten().await {
                        Ok(true) => break,
                        Ok(false) => tokio::time::sleep(COMPACT_PAUSE).await,
                        Err(Stopped) => return,
                    }
                }
                tracing::info!("the log begins with a new snapshot; older segments make room");
            }
            () = tokio::time::sleep(RESERVE_PAUSE) => match snapshot_bytes().await {
                Ok(bytes) => reserve.is_for(bytes),
                Err(Stopped) => return,
            },
        }
    }
}
