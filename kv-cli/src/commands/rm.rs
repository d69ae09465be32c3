//! `rm`: removes a store, after asking.

use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;
use store_client::{AttachError, Reader, Spec};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Remove a store with all that is in it
///
/// Processes that have it attached keep their mapping until they let go of it; nobody can attach it
/// any more. Stores that are broken, unfinished or of another version are removed too; a file that
/// is no store at all is not.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

pub(crate) fn run(args: RmArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let spec = context.spec()?;
    refuse_foreign(&spec)?;
    if !args.yes && !confirmed(&context.store)? {
        return Err(Failure::new(Exit::Absent, format!("{} was not removed", context.store)));
    }
    store_client::destroy(&spec)?;
    match format {
        Format::Raw => {}
        Format::Table => context.output.line(&format!("removed {}", context.store))?,
        Format::Json | Format::Jsonl => {
            context.output.json(&Removed { removed: &context.store })?;
        }
    }
    Ok(Exit::Done)
}

/// A path is typed wrong more easily than a name: only a store is removed, or what is left of one.
fn refuse_foreign(spec: &Spec) -> Result<(), Failure> {
    if !matches!(spec, Spec::File(_)) {
        return Ok(());
    }
    match Reader::attach(spec) {
        Err(error @ (AttachError::NotAStore { .. } | AttachError::SymbolicLink { .. })) => {
            Err(Failure::new(Exit::Corrupt, format!("{error}; it was not removed")))
        }
        _ => Ok(()),
    }
}

fn confirmed(store: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!(
            "{store} is removed without asking only with --yes; standard input is no terminal"
        )));
    }
    let mut stderr = io::stderr();
    let mut answer = String::new();
    write!(stderr, "Remove {store} and all that is in it? [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|error| Failure::system("asking", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
