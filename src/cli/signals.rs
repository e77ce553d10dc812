//! Signals: the first one asks to finish what is in hand, the second one insists.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, Kind};

/// A token that SIGINT and SIGTERM cancel. A second signal ends the process at once.
///
/// # Errors
/// When the system takes no handler.
pub fn stop_token() -> Result<CancellationToken, Failure> {
    let handler = |kind| signal(kind).map_err(|error| Failure::local(format!("cannot handle signals: {error}")));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        stop.cancel();
        tracing::info!("stopping; a second signal ends at once");
        let code = next(&mut interrupt, &mut terminate).await;
        #[expect(clippy::disallowed_methods, reason = "the second signal asks for just this")]
        std::process::exit(i32::from(128 + code));
    });
    Ok(token)
}

/// Runs a one-shot command; a signal ends it.
///
/// # Errors
/// The command's, or [`Kind::Interrupted`].
pub async fn interruptible<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let handler =
        |kind| signal(kind).map_err(|error: io::Error| Failure::local(format!("cannot handle signals: {error}")));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    tokio::select! {
        result = command => result,
        signal = next(&mut interrupt, &mut terminate) => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
    }
}

/// The number of the next signal.
async fn next(interrupt: &mut tokio::signal::unix::Signal, terminate: &mut tokio::signal::unix::Signal) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
