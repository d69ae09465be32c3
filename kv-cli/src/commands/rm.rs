//! `rm`: removes a store, after asking.

use serde::Serialize;
use store_client::{AttachError, Reader, Spec};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Remove a store with all that is in it
///
/// Processes that have it attached keep their mapping until they let go of it; nobody can attach it
/// any more. Stores that are broken, unfinished or of another version are removed too; a file or a
/// System V segment that is no store at all is not.
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
    let question = format!("Remove {} and all that is in it?", context.store);
    if !args.yes && !super::confirmed(&question)? {
        return Err(Failure::new(Exit::Absent, format!("{} was not removed", context.store)));
    }
    store_client::destroy(&spec).map_err(not_removed)?;
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
/// Nobody is asked about anything else.
fn refuse_foreign(spec: &Spec) -> Result<(), Failure> {
    if matches!(spec, Spec::Posix(_)) {
        return Ok(());
    }
    match Reader::attach(spec) {
        Err(
            error @ (AttachError::NotAStore { .. }
            | AttachError::NotAFile { .. }
            | AttachError::SymbolicLink { .. }),
        ) => Err(not_removed(error)),
        _ => Ok(()),
    }
}

fn not_removed(error: AttachError) -> Failure {
    match error {
        AttachError::NotAStore { .. } | AttachError::NotAFile { .. } => {
            Failure::new(Exit::Corrupt, format!("{error}; it was not removed"))
        }
        error => error.into(),
    }
}
