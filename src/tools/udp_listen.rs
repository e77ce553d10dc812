//! `udp-listen`.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

/// udp-listen
#[derive(Debug, Parser)]
#[command(name = "udp-listen", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Tool for Args {
    const NAME: &'static str = "udp-listen";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, _: &Output) -> Result<(), Failure> {
        Err(Failure::local("not built yet"))
    }
}
