//! `gc`: removes what stores left behind that nobody can use any more.

use serde::Serialize;
use store_client::{AttachError, Listing, leaks, remove_leak};

use super::{Context, ls};
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{self, Format};

/// Remove what nobody can use any more
///
/// Stores whose creation never ended and whose creator is dead, stores that were destroyed but for
/// their name, System V segments whose registration is lost, registrations of segments that are
/// gone, and System V semaphores of guards that no client uses and no listed store has; none of it
/// while somebody has it attached. A store that works is never removed. What could not be removed
/// is told, and gives the exit code. `--format raw` prints what was removed, or would be.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Do not ask
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,

    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Row {
    store: String,
    size: u64,
    state: String,
    removed: bool,
}

pub(crate) fn run(args: GcArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Json, Format::Jsonl, Format::Raw];
    let format = context.output.format(Format::Table, &others)?;
    let found = leaks().map_err(|error| Failure::system("listing the stores", &error))?;
    let mut exit = Exit::Done;
    let mut rows: Vec<Row> = found.iter().map(row).collect();
    if !args.dry_run && !found.is_empty() {
        let names: Vec<&str> = found.iter().map(|leak| leak.name.as_str()).collect();
        let question = format!("Remove {}?", names.join(", "));
        if !args.yes && !super::confirmed(&question)? {
            return Err(Failure::new(Exit::Absent, "nothing was removed"));
        }
        for (leak, row) in found.iter().zip(&mut rows) {
            match remove_leak(leak) {
                Ok(()) => row.removed = true,
                // Somebody else was faster.
                Err(AttachError::NotFound { .. }) => {}
                Err(error) => {
                    output::notice(&format!("{} was left: {error}", leak.name));
                    exit = Failure::from(error).exit;
                }
            }
        }
    }
    let output = &mut context.output;
    match format {
        Format::Json => output.json(&rows)?,
        Format::Jsonl => rows.iter().try_for_each(|row| output.json(row))?,
        Format::Raw => {
            let mut shown = rows.iter().filter(|row| args.dry_run || row.removed);
            shown.try_for_each(|row| output.line(&row.store))?;
        }
        Format::Table if rows.is_empty() => output.line("nothing to remove")?,
        Format::Table => {
            let cells: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
            output.table(&["store", "size", "state", "removed"], &cells, &[1])?;
        }
    }
    Ok(exit)
}

fn row(leak: &Listing) -> Row {
    let state = ls::state(&leak.state);
    Row { store: leak.name.clone(), size: leak.size, state, removed: false }
}

fn cells(row: Row) -> Vec<String> {
    let removed = if row.removed { "yes" } else { "no" };
    vec![row.store, human::size(row.size), row.state, removed.to_owned()]
}
