//! `store-server`: makes or attaches a store, keeps it, and reaps dead clients ahead of need.
//!
//! No client needs it: readers and writers work on the mapping, and a writer that meets a dead
//! one's guard repairs it itself. The server only makes sure that somebody looks now and then.

mod config;
mod exit;
mod keep;
mod log;
mod notify;
mod settings;
mod signals;
mod upkeep;
mod values;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use serde_json::json;

use crate::config::Config;
use crate::settings::Settings;
use crate::values::Format;

/// Keeps a store in shared memory and repairs what dead clients left.
#[derive(Debug, Parser)]
#[command(version, about, after_help = exit::HELP, args_override_self = true, max_term_width = 100)]
struct Args {
    /// TOML file of settings; its keys are the other options without hyphens in front. Flags win, and
    /// so does KV_STORE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Say whether the settings are good, print them with what stands for those not given, and end
    #[arg(long)]
    check_config: bool,

    /// Print the manual page and end
    #[arg(long)]
    man: bool,

    #[command(flatten)]
    flags: Settings,
}

/// The flags that are no keys of the file.
#[cfg(test)]
const FLAGS_ONLY: [&str; 5] = ["config", "check-config", "man", "help", "version"];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::complain(&error.to_string());
            exit::code_of(&error)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.man {
        return Ok(clap_mangen::Man::new(Args::command()).render(&mut io::stdout())?);
    }
    let load = || Config::load(&args.flags, args.config.as_deref());
    let config = load()?;
    let planned = config.check()?;
    if !args.check_config {
        return keep::run(config, args.config.is_some().then_some(&load));
    }
    let effective = config.effective()?;
    let mut out = io::stdout();
    match config.settings.format() {
        Format::Json => writeln!(out, "{}", json!(effective))?,
        Format::Human => {
            write!(out, "{effective}")?;
            if let Some(info) = planned {
                writeln!(
                    out,
                    "# makes {} bytes in {} extents of {} bytes, with an index for {} items",
                    info.segment_bytes, info.extents, info.extent_bytes, info.planned_items
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        Args::command().debug_assert();
    }
}
