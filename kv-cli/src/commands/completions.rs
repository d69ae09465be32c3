//! `completions`: scripts that complete this command line in a shell.

use clap::Command;
use clap_complete::Shell;

use super::Context;
use crate::cli;
use crate::exit::{Exit, Failure};
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli completions bash > ~/.local/share/bash-completion/completions/kv-cli
  kv-cli completions zsh > ~/.zfunc/_kv-cli
  kv-cli completions fish > ~/.config/fish/completions/kv-cli.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs, context: &mut Context) -> Result<Exit, Failure> {
    context.output.format(Format::Raw, &[])?;
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "kv-cli", &mut script);
    context.output.raw(mended(&String::from_utf8_lossy(&script)).as_bytes())?;
    Ok(Exit::Done)
}

/// The command line without the commands that this program starts itself with: generators offer hidden
/// ones too.
fn shown() -> Command {
    let whole = cli::definition();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("kv-cli")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(commands.cloned())
}

/// The bash generator writes the hyphen of the program's name in two ways, so that the cases of its
/// subcommands never match; here it is one way.
fn mended(script: &str) -> String {
    script.replace("kv__subcmd__cli", "kv__cli")
}
