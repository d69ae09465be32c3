//! `clear`: deletes all keys of a store, or of one namespace.

use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::Format;

/// Delete all keys, of the store or of the namespace that is given
///
/// Keys that others put meanwhile may stay. Without `--namespace` the keys that are in none go, and
/// those of namespaces stay. `rm` removes a store, `namespace rm` a namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Cleared {
    deleted: u64,
}

pub(crate) fn run(args: ClearArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let writer = context.writer()?;
    let what = match &context.namespace {
        Some(name) => format!("namespace {name} of {}", context.store),
        None => context.store.clone(),
    };
    if !args.yes && !super::confirmed(&format!("Delete all keys of {what}?"))? {
        return Err(Failure::new(Exit::Absent, "nothing was deleted"));
    }
    let deleted = writer.clear()?;
    if format.is_json() {
        context.output.json(&Cleared { deleted })?;
    } else {
        context.output.line(&format!("deleted {}", human::plural(deleted, "key", "keys")))?;
    }
    Ok(Exit::Done)
}
