//! The two ways to call `raft-node`: as a node, with plain options, and as `raft-node dump`.

use clap::{ArgMatches, Args as _, Command, CommandFactory, FromArgMatches, Parser};

use super::args::Args;
use super::dump;
use crate::cli::{Common, Failure, Output, Tool};

/// What `raft-node` is to do.
#[derive(Debug)]
pub enum Invocation {
    /// Be a node.
    Serve(Box<Args>),
    /// Back up what a data directory holds.
    Dump(dump::Options, Common),
}

impl Parser for Invocation {}

impl CommandFactory for Invocation {
    fn command() -> Command {
        let dump = dump::Options::augment_args(Command::new(dump::NAME));
        Args::command()
            .subcommand(dump.about(dump::ABOUT).after_help(dump::AFTER_HELP))
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
            .propagate_version(true)
    }

    fn command_for_update() -> Command {
        Self::command()
    }
}

impl FromArgMatches for Invocation {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((_, of_dump)) => {
                Ok(Self::Dump(dump::Options::from_arg_matches(of_dump)?, Common::from_arg_matches(matches)?))
            }
            None => Args::from_arg_matches(matches).map(|args| Self::Serve(Box::new(args))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Tool for Invocation {
    const NAME: &'static str = Args::NAME;

    fn common(&self) -> &Common {
        match self {
            Self::Serve(args) => args.common(),
            Self::Dump(_, common) => common,
        }
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.run(output).await,
            Self::Dump(options, _) => dump::run(&options, output).await,
        }
    }
}
