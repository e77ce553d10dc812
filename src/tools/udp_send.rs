//! `udp-send`.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

/// udp-send
#[derive(Debug, Parser)]
#[command(name = "udp-send", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Tool for Args {
    const NAME: &'static str = "udp-send";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, _: &Output) -> Result<(), Failure> {
        Err(Failure::local("not built yet"))
    }
}
