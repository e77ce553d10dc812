//! Where a value came from: who set a variable must not be told of an option that is nowhere to be seen.

use std::ffi::OsStr;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// What messages call the value that `option` (such as `--peer`) or, without it, `variable` gives.
pub fn name<'a>(option: &'a str, variable: &'a str) -> &'a str {
    if std::env::var_os(variable).is_some() && !is_on_command_line(option) { variable } else { option }
}

/// Makes a mistake in a variable name that one.
pub(super) fn amend(error: &mut clap::Error, mut command: Command) {
    command.build(); // only then do arguments know what they are called
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(argument) = find(&command, blamed) else { return };
    let (Some(option), Some(variable)) = (argument.get_long(), argument.get_env()) else { return };
    let option = format!("--{option}");
    if let Some(variable) = variable.to_str()
        && name(&option, variable) == variable
    {
        let blamed = format!("{variable} (environment)");
        error.insert(ContextKind::InvalidArg, ContextValue::String(blamed));
    }
}

fn find<'a>(command: &'a Command, blamed: &str) -> Option<&'a Arg> {
    let own = command.get_arguments().find(|argument| argument.to_string() == blamed);
    own.or_else(|| command.get_subcommands().find_map(|command| find(command, blamed)))
}

fn is_on_command_line(option: &str) -> bool {
    let is_it = |argument: &OsStr| {
        let rest = argument.as_encoded_bytes().strip_prefix(option.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
    };
    std::env::args_os().skip(1).any(|argument| is_it(&argument))
}
