//! `chmod`: who may read and write a store.

use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::names;
use crate::output::Format;

/// Change who may read and write a store
///
/// Processes that have it attached keep what they have.
#[derive(Debug, clap::Args)]
pub(crate) struct ChmodArgs {
    /// Unix permissions, in octal, such as 0640
    #[arg(value_name = "MODE", value_parser = names::permissions)]
    permissions: u32,
}

#[derive(Serialize)]
struct Changed<'a> {
    store: &'a str,
    permissions: String,
}

pub(crate) fn run(args: ChmodArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    store_client::set_permissions(&context.spec()?, args.permissions)?;
    let permissions = format!("{:04o}", args.permissions);
    match format {
        Format::Raw => {}
        Format::Table => {
            context.output.line(&format!("{} has mode {permissions}", context.store))?;
        }
        Format::Json | Format::Jsonl => {
            context.output.json(&Changed { store: &context.store, permissions })?;
        }
    }
    Ok(Exit::Done)
}
