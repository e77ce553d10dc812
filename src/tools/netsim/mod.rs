//! `netsim`: the protocols in a simulated network, in virtual time.
//!
//! - `script`: scenarios, a command a line;
//! - `json`: how nodes, messages and moments look to programs.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

mod json;
mod script;

/// Run Raft in a simulated network: scenarios written as scripts
///
/// The nodes are those of raft-node, driven in virtual time.
#[derive(Debug, Parser)]
#[command(
    name = "netsim",
    version,
    after_help = "Examples:\n  \
        netsim raft --script figure8.netsim\n  \
        printf 'nodes 3\\nfire 1 election\\ndeliver all\\nstate 1\\n' | netsim raft --script -\n\n\
        Exit codes: 0 all is well, 1 a property was violated, 2 usage or a mistake in a script, 6 trouble on this machine"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Simulate Raft
    Raft(Raft),
}

/// Simulate Raft
#[derive(Debug, clap::Args)]
struct Raft {
    /// Do what this script says (- is stdin)
    #[arg(long, value_name = "FILE")]
    script: String,
}

impl Tool for Args {
    const NAME: &'static str = "netsim";
    const TAKES_ALL_FILES: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.what {
            What::Raft(raft) => script::run(&raft.script, output),
        }
    }
}
