//! How a node that serves comes to its end, whatever its protocol.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::disk;
use super::driver::Driver;
use super::transport::Transport;
use super::writer::Journal;
use crate::defaults::DRAIN;
use crate::protocol::Protocol;

/// Drives a machine until `stop`. Then `farewell` is what the node does first; `server`, which has been told by the same token,
/// has [`DRAIN`] to finish its last requests; and the driver, which answers them, ends last.
///
/// On a full disk the node `halt`s: nothing that is not on the disk has been acknowledged, nor will it be, and all that can be
/// done until `stop` is to look at the machine.
///
/// # Errors
/// When the disk fails otherwise, or stands still at the end.
pub async fn run<P, T, J, F>(
    mut driver: Driver<P, T, J, F>,
    server: JoinHandle<()>,
    stop: CancellationToken,
    farewell: impl Future<Output = ()> + Send + 'static,
    halt: impl FnOnce(&disk::Error),
) -> Result<(), disk::Error>
where
    P: Protocol,
    T: Transport<P>,
    J: Journal<P::Record>,
    F: FnMut(P::Event),
{
    let drained = CancellationToken::new();
    let drain = drained.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        farewell.await;
        if tokio::time::timeout(DRAIN, server).await.is_err() {
            tracing::warn!("some requests were not finished within {DRAIN:?}");
        }
        drain.cancel();
    });
    match driver.run(drained.clone()).await {
        Err(error @ disk::Error::NoSpace { .. }) => {
            halt(&error);
            driver.only_inspect(drained).await;
            Ok(())
        }
        ended => ended,
    }
}
