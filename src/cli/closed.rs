//! Whether anybody still reads stdout: a tool that has nothing to print for hours finds out by no write.

use std::io::Stdout;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until stdout is a pipe whose reader has gone; for ever, when it is something else.
pub async fn stdout() {
    let gone = async |stdout: &AsyncFd<Stdout>| -> std::io::Result<()> {
        loop {
            let mut ready = stdout.ready(Interest::ERROR).await?;
            if ready.ready().is_error() {
                return Ok(());
            }
            ready.clear_ready();
        }
    };
    // A file or a terminal cannot be waited for, or never has errors.
    #[expect(deprecated, reason = "sound for a descriptor that stays open; its successor is unsafe for all")]
    let watched = AsyncFd::with_interest(std::io::stdout(), Interest::ERROR);
    let Ok(stdout) = watched else {
        return std::future::pending().await;
    };
    if gone(&stdout).await.is_err() {
        std::future::pending::<()>().await;
    }
}
