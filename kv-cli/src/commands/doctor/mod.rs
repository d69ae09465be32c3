//! `doctor`: what on this host would hurt a store in shared memory, and how to mend it.
//!
//! `host` reads and judges nothing, `memory` and `kernel` judge what was read, `store` does both for
//! one store.

#[cfg(test)]
mod any_text;
mod cgroup;
mod finding;
mod host;
mod kernel;
mod logind;
mod memory;
mod store;

use std::path::Path;

use owo_colors::Style;
use serde::Serialize;
use store_client::{Listing, Spec};

use self::finding::{Finding, Level};
use self::host::Host;
use super::Context;
use crate::exit::{Exit, Failure};
use crate::human::{plural, size};
use crate::output::{Format, Output};

const MIB: u64 = 1 << 20;
/// With less no store can be made.
const LEAST: u64 = MIB;
/// What `create` makes unless told otherwise.
const COMFORT: u64 = 256 * MIB;
/// Pages as `kernel.shmall` counts them.
const PAGE_BYTES: u64 = 4096;

/// Say what on this host would hurt a store, and how to mend it
///
/// Looks at shared memory and its limits, at System V IPC, at the limits of this process, at the
/// kernel, at what systemd does, at the container, and at what dead processes left; with a store
/// also at that store. Changes nothing. Each finding is ok, a note, a warning (it will hurt some
/// stores, or all when they get larger), or a problem (something can't work), with the reason and
/// what to do. Limits are those of this user and this process: run it as those who use the store.
///
/// Exits 10 when there is a problem.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Look at this store too: posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N
    #[arg(value_name = "STORE")]
    of_store: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    problems: usize,
    warnings: usize,
    notes: usize,
    findings: &'a [Finding],
}

pub(crate) fn run(args: DoctorArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let spec = args.of_store.map(|spec| spec.parse::<Spec>()).transpose()?;
    let host = Host::read(Path::new("/"));
    let mut findings = memory::judge(&host);
    findings.extend(kernel::judge(&host));
    findings.push(leaks(store_client::leaks().ok()));
    if let Some(spec) = &spec {
        findings.extend(store::judge(spec, &host));
    }
    let of = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings, notes) = (of(Level::Problem), of(Level::Warning), of(Level::Note));
    match format {
        Format::Json => {
            context.output.json(&Report { problems, warnings, notes, findings: &findings })?;
        }
        Format::Jsonl => {
            findings.iter().try_for_each(|finding| context.output.json(finding))?;
        }
        _ => {
            // What matters most stands last, where a terminal shows it.
            findings.sort_by_key(|finding| finding.level);
            findings.iter().try_for_each(|finding| show(finding, &mut context.output))?;
            let count = |number: usize, one, several| plural(number as u64, one, several);
            context.output.line(&format!(
                "\n{}, {}, {}",
                count(problems, "problem", "problems"),
                count(warnings, "warning", "warnings"),
                count(notes, "note", "notes")
            ))?;
        }
    }
    Ok(if problems > 0 { Exit::Problem } else { Exit::Done })
}

fn leaks(found: Option<Vec<Listing>>) -> Finding {
    let check = "leaks";
    let Some(found) = found else {
        let why = "stores in shared memory can't be listed";
        return Finding::note(check, "unknown", why);
    };
    if found.is_empty() {
        return Finding::ok(check, "none");
    }
    let bytes = found.iter().map(|leak| leak.resident).sum();
    let names: Vec<&str> = found.iter().map(|leak| leak.name.as_str()).collect();
    let finding = format!("{} of memory in {}", size(bytes), names.join(", "));
    let why = "nobody can use it any more, and nobody gives its memory back";
    Finding::of(Level::Warning, check, finding, why, "kv-cli gc")
}

fn show(finding: &Finding, output: &mut Output) -> Result<(), Failure> {
    let style = match finding.level {
        Level::Ok => Style::new().green(),
        Level::Note => Style::new().cyan().bold(),
        Level::Warning => Style::new().yellow().bold(),
        Level::Problem => Style::new().red().bold(),
    };
    let text = format!("{}: {}", finding.check, finding.finding);
    output.styled_paragraph(finding.level.name(), style, &text)?;
    if let Some(why) = finding.why {
        output.paragraph("", why)?;
    }
    if let Some(mend) = &finding.mend {
        // On one line, however long, to be copied.
        output.line(&format!("{:10}Mend: {mend}", ""))?;
    }
    Ok(())
}
