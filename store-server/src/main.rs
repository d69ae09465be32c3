//! `store-server`: makes or attaches a store, keeps it, and reaps dead clients ahead of need.
//!
//! No client needs it: readers and writers work on the mapping, and a writer that meets a dead
//! one's guard repairs it itself. The server only makes sure that somebody looks now and then.

mod exit;
mod upkeep;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bytesize::ByteSize;
use clap::Parser;
use store_client::{CreateError, CreateOptions, Spec, Writer, create, destroy};

/// Keeps a store in shared memory and repairs what dead clients left.
#[derive(Debug, Parser)]
#[command(version, about, after_help = exit::HELP)]
struct Args {
    /// The store: posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N.
    #[arg(long, env = "KV_STORE", default_value = "posix:default")]
    store: Spec,
    /// Make the store with this size (such as 256MiB) if it is not there.
    #[arg(long, value_name = "SIZE")]
    create: Option<ByteSize>,
    /// Permission bits of a store that is made, in octal.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = octal)]
    permissions: u32,
    /// Milliseconds between two looks at the clients.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    interval_ms: u64,
    /// Remove the store when the server ends by SIGTERM or SIGINT.
    #[arg(long)]
    remove: bool,
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| "octal digits, such as 0640".to_owned())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            upkeep::complain(&error.to_string());
            exit::code_of(&error)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let stop =
        upkeep::stop_signal().map_err(|error| anyhow!("installing signal handlers: {error}"))?;
    let writer = open(args)?;
    let info = writer.info()?;
    upkeep::say(&format!(
        "keeping {} ({}), {} items",
        args.store,
        ByteSize(info.segment_bytes),
        writer.len()
    ));
    upkeep::run(&writer, Duration::from_millis(args.interval_ms), &stop);
    // A store that somebody removed meanwhile is not ours any more, whatever has its name now.
    let retired = writer.is_retired();
    drop(writer);
    if args.remove && !retired {
        destroy(&args.store)?;
        upkeep::say(&format!("removed {}", args.store));
    }
    Ok(())
}

/// Attaches the store, or makes it if that was asked for.
fn open(args: &Args) -> Result<Writer> {
    if let Some(size) = args.create {
        let options = CreateOptions::new(size.as_u64()).permissions(args.permissions);
        match create(&args.store, &options) {
            Ok(writer) => return Ok(writer),
            // What is there may be a store or not: attaching it tells.
            Err(CreateError::Exists { .. } | CreateError::Occupied { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Writer::attach(&args.store)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        super::Args::command().debug_assert();
    }
}
