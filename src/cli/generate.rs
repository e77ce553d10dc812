//! Completions and man pages, made from the arguments themselves.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::Failure;

/// Writes the completions and man pages of a tool where shells and man look for them below `share`.
pub(super) fn run(mut command: Command, share: &Path) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    // `tool help sub` says what `man tool-sub` does. Said now: the completions add the subcommands `help` for good.
    let pages = command.clone().disable_help_subcommand(true);
    let failed = |what: &Path, error| Failure::local(format!("cannot write {}: {error}", what.display()));
    let shells = [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ];
    for (shell, dir) in shells {
        let dir = share.join(dir);
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
        let written = clap_complete::generate_to(shell, &mut command, &name, &dir);
        let file = written.map_err(|error| failed(&dir, error))?;
        if shell == Shell::Bash {
            let found = file.with_file_name(&name); // bash-completion looks for the bare name
            fs::rename(&file, &found).map_err(|error| failed(&found, error))?;
        }
    }
    let man = share.join("man/man1");
    fs::create_dir_all(&man).map_err(|error| failed(&man, error))?;
    clap_mangen::generate_to(pages, &man).map_err(|error| failed(&man, error))
}
