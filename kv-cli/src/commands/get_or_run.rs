//! `get-or-run`: a value, or where it is missing the output of a command, run once for all.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use store_client::{LoadError, LoadOptions};

use super::Context;
use super::get::show_value;
use super::put::{TtlOption, read_bounded};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Format;

const AFTER_HELP: &str = "\
Examples:
  kv-cli get-or-run weather:basel --ttl 10m -- curl -sf https://wttr.in/Basel?format=3
  kv-cli get-or-run report --ttl 1h --stale 1d --wait 2m -- ./make-report --all

Of all processes that miss the key at the same time, one runs the command; the others wait for its
output. If the command fails or is killed, another one runs it.

Exits 7 when another process ran the command for longer than --wait, and names it. Exits 9 when the
command can't be started or fails; nothing is stored then. The value is written also when it could
not be stored (exit code 5 or 8).";

/// Write the value of a key; if it is absent, run a command and store its output
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GetOrRunArgs {
    /// The key
    key: OsString,

    #[command(flatten)]
    ttl: TtlOption,

    /// How long a value whose time is over is still given, while one process makes a new one
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    stale: Option<Duration>,

    /// How long to wait while another process runs the command
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5s")]
    wait: Duration,

    /// The command and its arguments; what it writes to standard output is the value
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: GetOrRunArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Table, Format::Json, Format::Jsonl];
    let format = context.output.format(Format::Raw, &others)?;
    let writer = context.writer()?.count_lookups()?;
    let limit = writer.info()?.value_bytes_max;
    let key = args.key.into_vec();
    let mut options = LoadOptions::new().wait(args.wait);
    if args.ttl.for_ever {
        options = options.for_ever();
    }
    if let Some(ttl) = args.ttl.ttl() {
        options = options.ttl(ttl);
    }
    if let Some(stale) = args.stale {
        options = options.stale(stale);
    }
    match writer.get_or_insert_with(&key, &options, || output_of(&args.command, limit)) {
        Ok(value) => show_value(&key, Some(&value), format, &mut context.output)?,
        Err(LoadError::NotStored { value, source }) => {
            show_value(&key, Some(&value), format, &mut context.output)?;
            return Err(Failure::from(source).at("the value was not stored"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

/// What a command writes to standard output, if it ends well.
fn output_of(command: &[OsString], limit: u64) -> Result<Vec<u8>, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("there is no command to run"));
    };
    let name = program.to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::system(&format!("starting {name}"), &error))?;
    let written = match child.stdout.take() {
        Some(output) => read_bounded(output, "the command's output", limit),
        None => Ok(Vec::new()),
    };
    if written.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| Failure::system(&name, &error))?;
    let written = written?;
    if status.success() {
        return Ok(written);
    }
    let text = format!("{name} failed ({status}); nothing was stored");
    Err(Failure::new(Exit::System, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(command: &[&str]) -> Result<Vec<u8>, Failure> {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        output_of(&command, 100)
    }

    #[test]
    fn only_a_command_that_ends_well_has_an_output() {
        assert_eq!(output(&["echo", "a", "b"]).ok(), Some(b"a b\n".to_vec()));
        let failed = output(&["sh", "-c", "echo x; exit 3"]).expect_err("it fails");
        assert_eq!(failed.exit, Exit::System);
        assert!(failed.line().is_some_and(|line| line.contains("exit status: 3")));
        assert!(output(&["/no/such/program"]).is_err());
        // Endless output ends in an answer.
        let endless = output(&["yes"]).expect_err("refused");
        assert_eq!(endless.exit, Exit::Refused);
    }
}
