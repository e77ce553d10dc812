//! `udp-send`: sends datagrams, and waits for what comes back.

use crate::cli::signals::Signals;
use crate::cli::{Common, Failure, Kind, Output, Tool};
use crate::datagram::sender::longest;
use crate::tools::resolve;

mod options;
mod payloads;
mod send_loop;

pub use options::Args;
use send_loop::SendLoop;

impl Tool for Args {
    const NAME: &'static str = "udp-send";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let addrs = tokio::select! {
            addrs = resolve(&self.addr) => addrs?,
            signal = signals.stop() => return Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
        };
        let (sender, to) = self.open(&addrs)?;
        let (payloads, feeder) = self.payloads(longest(to.ip()))?;
        SendLoop::new(&self, output, sender, to, payloads, feeder).run(&mut signals).await
    }
}
