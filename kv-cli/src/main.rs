//! `kv-cli`: Cistern's stores on the command line, for people and scripts.
//!
//! Every error is one line on standard error and an exit code (see `exit`); a closed pipe is none.

mod cli;
mod commands;
mod duration;
mod exit;
mod human;
mod keys;
mod names;
mod output;
mod process;
mod progress;
mod records;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure);
            failure.exit.into()
        }
    }
}
