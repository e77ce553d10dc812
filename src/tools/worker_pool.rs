//! `worker-pool`.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

/// worker-pool
#[derive(Debug, Parser)]
#[command(name = "worker-pool", version)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

impl Tool for Args {
    const NAME: &'static str = "worker-pool";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, _: &Output) -> Result<(), Failure> {
        Err(Failure::local("not built yet"))
    }
}
