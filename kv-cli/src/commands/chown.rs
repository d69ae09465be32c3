//! `chown`: whose a store is.

use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::names;
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli --store posix:shared chown alice
  kv-cli --store sysv:0x1234 chown alice:www-data
  kv-cli --store file:/var/lib/app/data.kv chown :www-data";

/// Give a store to another user or group
///
/// To another user only root can; a System V store its owner can too. Processes that have it attached keep what they have.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ChownArgs {
    /// User, group or both, by name or number
    #[arg(value_name = "[USER][:GROUP]")]
    owner: String,
}

#[derive(Serialize)]
struct Changed<'a> {
    store: &'a str,
    uid: Option<u32>,
    gid: Option<u32>,
}

pub(crate) fn run(args: ChownArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let (user, group) = args.owner.split_once(':').unwrap_or((&args.owner, ""));
    let uid = (!user.is_empty()).then(|| names::uid_of(user)).transpose()?;
    let gid = (!group.is_empty()).then(|| names::gid_of(group)).transpose()?;
    if uid.is_none() && gid.is_none() {
        return Err(Failure::usage("name a user, a :group, or both as user:group"));
    }
    store_client::set_owner(&context.spec()?, uid, gid)?;
    match format {
        Format::Raw => {}
        Format::Table => {
            context.output.line(&format!("{} is {}'s now", context.store, args.owner))?;
        }
        Format::Json | Format::Jsonl => {
            context.output.json(&Changed { store: &context.store, uid, gid })?;
        }
    }
    Ok(Exit::Done)
}
