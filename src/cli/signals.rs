//! Signals: the first one asks to finish what is in hand, the second one insists.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, Kind};
use crate::threads;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT (2) or SIGTERM (15): to stop.
    Stop(u8),
    /// SIGUSR1: to print how far it is.
    Interval,
}

/// The signals of this process, from now on.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    user: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes over from the system, which would end the process.
    ///
    /// # Errors
    /// When the system takes no handler.
    pub fn new() -> Result<Self, Failure> {
        Self::ending_at(2)
    }

    /// The same, for a tool that has something to do at the second signal, too: the third ends it.
    ///
    /// # Errors
    /// As for [`Signals::new`].
    pub fn patient() -> Result<Self, Failure> {
        Self::ending_at(3)
    }

    fn ending_at(last: usize) -> Result<Self, Failure> {
        let failed = |error| Failure::local(format!("cannot start the thread that hears signals: {error}"));
        let signals = Self::register()?;
        let (registered, ready) = std::sync::mpsc::channel();
        // A thread of its own hears a signal whatever the others are stuck in, such as a pipe that nobody reads.
        let insist = move |runtime: &Runtime| {
            runtime.block_on(async {
                let signals = Self::register();
                let _ = registered.send(()); // whoever waits for it is there
                let Ok(mut signals) = signals else { return };
                for _ in 1..last {
                    signals.stop().await;
                }
                end(signals.stop().await)
            });
        };
        threads::with_runtime("signals", insist).map_err(failed)?;
        let _ = ready.recv();
        Ok(signals)
    }

    fn register() -> Result<Self, Failure> {
        let handler = |kind| signal(kind).map_err(|error| Failure::local(format!("cannot handle signals: {error}")));
        Ok(Self {
            interrupt: handler(SignalKind::interrupt())?,
            terminate: handler(SignalKind::terminate())?,
            user: handler(SignalKind::user_defined1())?,
        })
    }

    /// The next one. Cancelling it loses none.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop(2),
            _ = self.terminate.recv() => Signal::Stop(15),
            _ = self.user.recv() => Signal::Interval,
        }
    }

    /// The number of the next one that asks to stop.
    pub async fn stop(&mut self) -> u8 {
        loop {
            if let Signal::Stop(number) = self.next().await {
                return number;
            }
        }
    }
}

/// A token that SIGINT and SIGTERM cancel. A second signal ends the process at once.
///
/// # Errors
/// When the system takes no handler.
pub fn stop_token() -> Result<CancellationToken, Failure> {
    let mut signals = Signals::new()?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        signals.stop().await;
        stop.cancel();
        tracing::info!("stopping; a second signal ends at once");
    });
    Ok(token)
}

/// Ends the process now, as after a second signal.
pub fn end(signal: u8) -> ! {
    #[expect(clippy::disallowed_methods, reason = "the second signal asks for just this")]
    std::process::exit(i32::from(128 + signal))
}

/// Runs a one-shot command; a signal ends it.
///
/// # Errors
/// The command's, or [`Kind::Interrupted`].
pub async fn interruptible<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        result = command => result,
        signal = signals.stop() => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
    }
}
