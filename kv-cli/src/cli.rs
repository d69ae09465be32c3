//! The command line: global options, the list of commands, and how wrong usage is reported.
//!
//! Each command's own arguments stand beside its code in `commands`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    bench, cas, check, chmod, chown, clear, completions, counter, create, demo, doctor, dump,
    expire, extend, gc, get, get_or_run, getset, info, keys, load, ls, man, map, mget, mput,
    namespace, put, rm, salvage, scan, stats, take, trim,
};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

const AFTER_HELP: &str = "\
Examples:
  kv-cli create --size 1GiB                        make the store posix:default
  kv-cli put greeting hello && kv-cli get greeting
  tar c photos | kv-cli put backup -               a value from standard input
  kv-cli load users.jsonl && kv-cli scan --prefix user:
  kv-cli --store file:/var/lib/app/cache.kv stats  another store
  kv-cli namespace create sessions --quota 64MiB --default-ttl 30m
  kv-cli --namespace sessions put 42 Ada           keys of their own
  kv-cli demo                                      see it work, nothing needed

Stores (--store, or the variable KV_STORE):
  posix:NAME               shared memory, until a reboot or `kv-cli rm`
  file:PATH                a mapped file, survives reboots if it was closed before
  sysv:NAME, sysv:0xKEY    System V shared memory, by a registered name or by key
  fd:N                     a memfd or another object whose descriptor was inherited

Sizes: KiB, MiB, GiB count by 1024; K, M, G and KB, MB, GB by 1000 (1M is 1,000,000 bytes).

Exit codes:
  0 done                          5 full
  1 key absent, condition false,  6 corrupt, not a store, other format version
    store there already (create)  7 timed out, or stuck behind a stopped process
  2 wrong usage                   8 key, value, number or line refused
  3 store, namespace absent       9 system error, output not written
  4 no permission, or written    10 `doctor` found a problem
    from another namespace      130 ended by Ctrl-C or SIGTERM";

/// A key-value store in shared memory for the processes of one host.
#[derive(Debug, Parser)]
#[command(
    name = "kv-cli",
    version,
    about = "A key-value store in shared memory for the processes of one host",
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    // The last one wins, so that a script's options can be overridden behind them.
    args_override_self = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command, before or after its name.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The store: posix:NAME, sysv:NAME, sysv:0xKEY, file:PATH or fd:N
    #[arg(
        long,
        global = true,
        value_name = "SPEC",
        env = "KV_STORE",
        hide_env_values = true,
        default_value = "posix:default",
        help_heading = "Global options"
    )]
    pub(crate) store: String,

    /// Work on the keys of this namespace [default: the keys without one]
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) namespace: Option<String>,

    /// Shape of the output; each command has a sensible one of its own
    #[arg(long, global = true, value_enum, help_heading = "Global options")]
    pub(crate) format: Option<Format>,

    /// How long a write waits for a guard that a living process holds [default: 5s]
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        value_parser = duration::parse,
        help_heading = "Global options"
    )]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::CreateArgs),
    Rm(rm::RmArgs),
    Ls(ls::LsArgs),
    Gc(gc::GcArgs),
    Chmod(chmod::ChmodArgs),
    Chown(chown::ChownArgs),
    Info(info::InfoArgs),
    Doctor(doctor::DoctorArgs),
    Get(get::GetArgs),
    GetOrRun(get_or_run::GetOrRunArgs),
    Put(put::PutArgs),
    Add(put::AddArgs),
    Replace(put::ReplaceArgs),
    Cas(cas::CasArgs),
    Mput(mput::MputArgs),
    Append(extend::AppendArgs),
    Prepend(extend::PrependArgs),
    Getset(getset::GetsetArgs),
    Take(take::TakeArgs),
    Del(keys::DelArgs),
    Exists(keys::ExistsArgs),
    Incr(counter::IncrArgs),
    Decr(counter::DecrArgs),
    Ttl(keys::TtlArgs),
    Expire(expire::ExpireArgs),
    Persist(expire::PersistArgs),
    Mget(mget::MgetArgs),
    Scan(scan::ScanArgs),
    Load(load::LoadArgs),
    Dump(dump::DumpArgs),
    Stats(stats::StatsArgs),
    Map(map::MapArgs),
    Namespace(namespace::NamespaceArgs),
    Clear(clear::ClearArgs),
    Trim(trim::TrimArgs),
    Check(check::CheckArgs),
    Salvage(salvage::SalvageArgs),
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    BenchWorker(bench::BenchWorkerArgs),
    #[command(hide = true)]
    DemoWorker(demo::DemoWorkerArgs),
}

impl Command {
    /// Whether it works on keys, or can be about those of one namespace.
    fn has_namespace(&self) -> bool {
        !matches!(
            self,
            Self::Create(_)
                | Self::Rm(_)
                | Self::Ls(_)
                | Self::Gc(_)
                | Self::Chmod(_)
                | Self::Chown(_)
                | Self::Info(_)
                | Self::Doctor(_)
                | Self::Map(_)
                | Self::Namespace(_)
                | Self::Trim(_)
                | Self::Check(_)
                | Self::Salvage(_)
                | Self::Bench(_)
                | Self::Demo(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::BenchWorker(_)
                | Self::DemoWorker(_)
        )
    }
}

/// The whole definition, for the manual and the completions.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// Parses the command line. Help and version are printed; wrong usage is one line and code 2.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Exit> {
    let error = match parsed(args) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let Err(error) = error.print().and_then(|()| io::stdout().flush()) else {
                return Err(Exit::Done);
            };
            let failure = Failure::output(&error);
            output::complain(&failure);
            Err(failure.exit)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Err(Exit::Usage)
        }
        _ => {
            output::complain(&Failure::usage(one_line(&error)));
            Err(Exit::Usage)
        }
    }
}

/// Refuses a `--store` or `--namespace` that would have no effect. What `KV_STORE` says concerns
/// other commands too.
fn parsed(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    if cli.global.namespace.is_some() && !cli.command.has_namespace() {
        let name = matches.subcommand_name().unwrap_or_default();
        let message = format!(
            "kv-cli {name} is about no single namespace: leave --namespace out (`kv-cli namespace \
             ls` shows them, `kv-cli stats --namespace NAME` one)"
        );
        return Err(definition().error(ErrorKind::ArgumentConflict, message));
    }
    let given = matches.value_source("store") == Some(ValueSource::CommandLine);
    let what = match &cli.command {
        Command::Ls(_) | Command::Gc(_) => "looks at all stores in shared memory",
        Command::Demo(_) => "makes a store of its own",
        Command::Doctor(_) => "takes a store as its argument",
        Command::Salvage(_) => "takes both stores as its arguments",
        Command::Completions(_) | Command::Man(_) => "needs no store",
        _ => return Ok(cli),
    };
    if !given {
        return Ok(cli);
    }
    let name = matches.subcommand_name().unwrap_or_default();
    let message = format!("kv-cli {name} {what}: leave --store out");
    Err(definition().error(ErrorKind::ArgumentConflict, message))
}

/// clap's message with its hint in one line, without the usage text, which `--help` shows.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut parts = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        if !line.is_empty() {
            parts.push(line);
        }
    }
    let mut message = parts.join(" ").replace(" tip: ", "; ").replace(" [possible", "; [possible");
    message.push_str("; see --help");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        let words = [&["kv-cli"], args].concat();
        super::parsed(words.into_iter().map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn the_store_may_stand_before_or_after_the_command() {
        for args in [["--store", "posix:x", "get", "k"], ["get", "k", "--store", "posix:x"]] {
            let cli = parsed(&args).expect("parses");
            assert_eq!(cli.global.store, "posix:x");
        }
    }

    #[test]
    fn numbers_may_be_negative() {
        for args in [
            &["incr", "k", "-5"][..],
            &["decr", "k", "-5"],
            &["put", "k", "-5"],
            &["append", "k", "-5"],
            &["getset", "k", "-5"],
            &["mput", "k", "-5", "l", "-6"],
        ] {
            assert!(parsed(args).is_ok(), "{args:?}");
        }
        assert!(parsed(&["incr", "k", "five"]).is_err());
        assert!(parsed(&["incr", "k", "9223372036854775808"]).is_err());
    }

    #[test]
    fn times_to_live_exclude_each_other() {
        assert!(parsed(&["put", "k", "v", "--ttl", "10s"]).is_ok());
        assert!(parsed(&["put", "k", "v", "--ttl-ms", "10"]).is_ok());
        assert!(parsed(&["put", "k", "v", "--ttl-ms", "10", "--ttl", "1s"]).is_err());
        assert!(parsed(&["put", "k", "v", "--ttl", "10"]).is_err());
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for args in [
            &["get"][..],
            &["gett", "k"],
            &["put", "k", "v", "--tttl", "5s"],
            &["--format", "xml", "get", "k"],
            &["create", "--size", "many"],
            &["bench", "--work", "sleep"],
        ] {
            let line = one_line(&parsed(args).expect_err("refused"));
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
            assert!(line.len() > 20, "{line}");
        }
    }

    #[test]
    fn every_visible_command_says_what_it_does() {
        for command in definition().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
