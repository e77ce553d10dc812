//! `udp-listen`: shows, counts and answers datagrams.

use crate::cli::signals::Signals;
use crate::cli::{Common, Failure, Output, Tool, ready};

mod lines;
mod listener;
mod options;
mod sink;
mod writer;

use lines::Lines;
use listener::Listener;
pub use options::Args;
use sink::{Replier, Sink};

impl Tool for Args {
    const NAME: &'static str = "udp-listen";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let signals = Signals::new()?;
        self.check()?;
        ready::forget(self.ready_file.as_deref());
        let socket = self.open().await?;
        let addr = socket.local_addr().map_err(|error| Failure::local(format!("cannot listen: {error}")))?;
        let writer = self.writer()?;
        let replier = match &self.reply {
            Some(text) => Some(Replier::new(text, self.reply_rate, addr)?),
            None => None,
        };
        // With --quiet there is nothing to show.
        let lines = (!self.common.quiet).then(|| Lines::new(output.is_json(), self.hex, addr.port()));
        ready::announce(output, Self::NAME, None, addr, self.ready_file.as_deref())?;
        Listener::new(&self, output, socket, Sink::new(lines, replier)).run(signals, writer).await
    }
}
