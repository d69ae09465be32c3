//! `create`: makes a store and says what came of the sizes that were asked for.

use serde::Serialize;
use store_client::{CreateOptions, GuardKind, HashKind, HugePages, Mode};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::names;
use crate::output::{self, Format};

const AFTER_HELP: &str = "\
Examples:
  kv-cli create                                          posix:default of 256 MiB
  kv-cli create --store posix:cache --size 4GiB --items 20000000
  kv-cli create --store posix:shared --permissions 0640 --group www-data
  kv-cli create --store sysv:0x1234 --permissions 0644
  kv-cli create --store file:/var/lib/app/data.kv --size 1GiB --max-size 16GiB

Sizes: KiB, MiB, GiB (and Ki, Mi, Gi) count by 1024; KB, MB, GB (and K, M, G) by 1000. So 1M is
1,000,000 bytes and 1MiB 1,048,576.

Exits 1 when the store exists already.";

/// Make a store
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CreateArgs {
    /// Size of the whole store: 256MiB, 4GiB, … It comes out smaller by what does not fill an extent
    #[arg(long, default_value = "256MiB", value_parser = human::parse_size)]
    size: u64,

    /// Size up to which it may grow [default: it does not grow]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    max_size: Option<u64>,

    /// Size of an extent, the unit in which space is given to writers [default: by size]
    #[arg(long, value_name = "SIZE", value_parser = human::parse_size)]
    extent_size: Option<u64>,

    /// How many items the index is laid out for at first; it grows [default: by size]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    items: Option<u64>,

    /// What a full store does: `store` refuses puts, `cache` evicts what was looked up least
    #[arg(long, default_value = "store", value_parser = ["store", "cache"])]
    mode: String,

    /// Hash of the keys; siphash if people who don't trust each other choose them
    #[arg(long, default_value = "rapidhash", value_parser = ["rapidhash", "siphash"])]
    hash: String,

    /// Guards of writers: futex words, or System V semaphores (slower, for one IPC namespace)
    #[arg(long, default_value = "futex", value_parser = ["futex", "sysv"])]
    guard: String,

    /// Pages of 2 MiB: `transparent` asks the kernel, which gives what it has; `reserved` takes them from
    /// the pool (vm.nr_hugepages), for sysv: only; a file on a hugetlbfs mount has them anyway
    #[arg(long, default_value = "default", value_parser = ["default", "transparent", "reserved"])]
    huge_pages: String,

    /// Unix permissions, in octal, with 0600 for the owner; others who may read need only the read
    /// bit
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = names::permissions)]
    permissions: u32,

    /// In cache mode, permissions of a place where readers mark what they look up, in octal, such as
    /// 0666: who may write there can spoil the hit ratio, and nothing else [default: none]
    #[arg(long, value_name = "MODE", value_parser = names::permissions)]
    heat_permissions: Option<u32>,

    /// Group that owns it, by name or number
    #[arg(long, value_name = "NAME|GID")]
    group: Option<String>,
}

#[derive(Serialize)]
struct Created<'a> {
    store: &'a str,
    name: &'a str,
    uuid: &'a str,
    mode: String,
    hash: &'a str,
    guard: String,
    permissions: String,
    size: u64,
    max_size: u64,
    extents: u32,
    extents_max: u32,
    extent_size: u64,
    buckets: u64,
    planned_items: u64,
    key_bytes_max: u64,
    value_bytes_max: u64,
    huge_pages: String,
    huge_page_bytes: u64,
}

pub(crate) fn run(args: CreateArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let spec = context.spec()?;
    let mode: Mode = args.mode.parse().map_err(Failure::usage)?;
    let hash: HashKind = args.hash.parse().map_err(Failure::usage)?;
    let guard: GuardKind = args.guard.parse().map_err(Failure::usage)?;
    let huge_pages: HugePages = args.huge_pages.parse().map_err(Failure::usage)?;
    let mut options = CreateOptions::new(args.size)
        .mode(mode)
        .hash(hash)
        .guard(guard)
        .huge_pages(huge_pages)
        .permissions(args.permissions)
        .heat_permissions(args.heat_permissions.unwrap_or(0));
    if let Some(max_size) = args.max_size {
        options = options.max_size(max_size);
    }
    if let Some(extent_size) = args.extent_size {
        options = options.extent_size(extent_size);
    }
    if let Some(items) = args.items {
        options = options.items(items);
    }
    if let Some(group) = &args.group {
        options = options.group(names::gid_of(group)?);
    }
    let info = store_client::create(&spec, &options)?.info()?;

    let created = Created {
        store: &context.store,
        name: &info.name,
        uuid: &info.uuid,
        mode: info.mode.to_string(),
        hash: info.hash,
        guard: info.guard.to_string(),
        permissions: format!("{:04o}", args.permissions),
        size: info.segment_bytes,
        max_size: info.max_segment_bytes,
        extents: info.extents,
        extents_max: info.extents_max,
        extent_size: info.extent_bytes,
        buckets: info.buckets,
        planned_items: info.planned_items,
        key_bytes_max: info.key_bytes_max,
        value_bytes_max: info.value_bytes_max,
        huge_pages: info.huge_pages.to_string(),
        huge_page_bytes: info.huge_page_bytes,
    };
    if info.removed_when_detached {
        output::notice(super::RMID_FORCED);
    }
    if format.is_json() {
        context.output.json(&created)?;
    } else {
        let extents = u64::from(created.extents);
        context.output.pairs(&[
            ("made", created.store.to_owned()),
            ("name", created.name.to_owned()),
            ("mode", created.mode),
            ("hash", created.hash.to_owned()),
            ("guards", created.guard),
            ("permissions", created.permissions),
            ("size", human::exact_size(created.size)),
            ("largest size", human::exact_size(created.max_size)),
            ("extents", format!("{} of {}", human::count(extents), human::size(info.extent_bytes))),
            ("buckets", human::count(created.buckets)),
            ("planned items", human::count(created.planned_items)),
            ("longest key", human::exact_size(created.key_bytes_max)),
            ("largest value", human::exact_size(created.value_bytes_max)),
            ("huge pages", super::info::huge_pages(&info)),
        ])?;
    }
    Ok(Exit::Done)
}
