//! `netsim`: the protocols in a simulated network, in virtual time.
//!
//! - `sweep`: one seed or many of any protocol's scenario, `raft`: of Raft's;
//! - `script`: scenarios, a command a line, and `json`, how their answers look to programs;
//! - `draw`: a trace as a picture;
//! - `results`: where results and traces go.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

mod draw;
mod json;
mod raft;
mod results;
mod script;
mod sweep;

/// Run Raft in a simulated network: thousands of seeds of faults, or scenarios written as scripts
///
/// The nodes are those of raft-node, driven in virtual time.
#[derive(Debug, Parser)]
#[command(
    name = "netsim",
    version,
    after_help = "Examples:\n  \
        netsim raft --seeds 0..1000\n  \
        netsim raft --seed 28 --nodes 3 --faults crash,delay --trace - | netsim draw - > run.svg\n  \
        netsim raft --script figure-8.netsim\n  \
        printf 'nodes 3\\nfire 1 election\\ndeliver all\\nstate 1\\n' | netsim raft --script -\n\n\
        Exit codes: 0 all is well, 1 a property was violated or something is not as a script expects, 2 usage or a mistake in a script, 6 trouble on this machine,\n\
        130/143 interrupted"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Raft(raft::Options),
    Draw(draw::Options),
}

impl Tool for Args {
    const NAME: &'static str = "netsim";
    const TAKES_ALL_FILES: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.what {
            What::Raft(options) => raft::run(options, &self.common, output).await,
            What::Draw(options) => draw::run(&options, output),
        }
    }
}
