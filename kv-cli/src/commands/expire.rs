//! `expire` and `persist`: a time to live set or removed, the value left as it is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::Context;
use super::get::{absent, left_ms, left_text};
use super::put::write_format;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::{Format, JsonEntry};
use store_client::Ttl;

const EXPIRE_HELP: &str = "\
Examples:
  kv-cli expire session:17 30m
  kv-cli expire --format json session:17 500ms

Exits 1 when the key is absent. The key has a new version then.";

/// Set how long a key lives from now on
#[derive(Debug, clap::Args)]
#[command(after_help = EXPIRE_HELP, visible_alias = "touch")]
pub(crate) struct ExpireArgs {
    /// The key
    key: OsString,

    /// Time to live: 500ms, 10s, 5m, 2h, 1d
    #[arg(value_name = "TIME", value_parser = duration::parse)]
    ttl: Duration,
}

/// Let a key live for ever
///
/// Exits 1 when the key is absent. A key that had a time to live has a new version then.
#[derive(Debug, clap::Args)]
pub(crate) struct PersistArgs {
    /// The key
    key: OsString,
}

pub(crate) fn run_expire(args: ExpireArgs, context: &mut Context) -> Result<Exit, Failure> {
    set(&args.key.into_vec(), Ttl::Left(args.ttl), context)
}

pub(crate) fn run_persist(args: PersistArgs, context: &mut Context) -> Result<Exit, Failure> {
    set(&args.key.into_vec(), Ttl::Never, context)
}

fn set(key: &[u8], ttl: Ttl, context: &mut Context) -> Result<Exit, Failure> {
    let format = write_format(context)?;
    let writer = context.writer()?;
    let there = match ttl {
        Ttl::Left(left) => writer.expire(key, left)?,
        Ttl::Never => writer.persist(key)?,
    };
    if !there {
        return Err(absent(key));
    }
    match format {
        Format::Raw => {}
        Format::Table => context.output.line(&left_text(ttl))?,
        Format::Json | Format::Jsonl => {
            let ttl_ms = Some(left_ms(ttl));
            context.output.json(&JsonEntry { key, ttl_ms, ..JsonEntry::default() })?;
        }
    }
    Ok(Exit::Done)
}
