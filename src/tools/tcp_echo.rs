//! `tcp-echo`.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

/// tcp-echo
#[derive(Debug, Parser)]
#[command(name = "tcp-echo", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Tool for Args {
    const NAME: &'static str = "tcp-echo";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, _: &Output) -> Result<(), Failure> {
        Err(Failure::local("not built yet"))
    }
}
