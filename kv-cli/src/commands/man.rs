//! `man`: manual pages in roff, from the same definitions as the help.

use std::path::PathBuf;

use super::Context;
use crate::cli;
use crate::exit::{Exit, Failure};
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli man | man -l -                            read it
  kv-cli man --out ~/.local/share/man/man1         install all pages";

/// Print the manual page, or write the pages of all commands to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ManArgs {
    /// Write kv-cli.1 and a page for each command there; the directory is made if need be
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: ManArgs, context: &mut Context) -> Result<Exit, Failure> {
    context.output.format(Format::Raw, &[])?;
    let Some(directory) = args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(cli::definition())
            .render(&mut page)
            .map_err(|error| Failure::system("making the page", &error))?;
        context.output.raw(&page)?;
        return Ok(Exit::Done);
    };
    let place = directory.display().to_string();
    std::fs::create_dir_all(&directory).map_err(|error| Failure::system(&place, &error))?;
    clap_mangen::generate_to(cli::definition(), &directory)
        .map_err(|error| Failure::system(&place, &error))?;
    Ok(Exit::Done)
}
