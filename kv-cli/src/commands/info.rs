//! `info`: how a store is laid out, who is attached for writing, which guards are held.

use serde::Serialize;
use store_client::{ClientInfo, ClientState, HeldGuard, HeldLease, HugePages, Info};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{self, Format, Output};

/// Show how a store is laid out and who writes to it
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {}

#[derive(Serialize)]
struct JsonInfo<'a> {
    store: &'a str,
    name: &'a str,
    backing: String,
    seals: &'a [&'static str],
    read_only_for_good: bool,
    removed_when_detached: bool,
    uuid: &'a str,
    format_version: u32,
    mode: String,
    heat_permissions: String,
    created: String,
    created_unix_ms: u64,
    segment_bytes: u64,
    max_segment_bytes: u64,
    resident_bytes: u64,
    max_arena_bytes: u64,
    extent_bytes: u64,
    extents: u32,
    extents_max: u32,
    buckets: u64,
    overflow_lines: u64,
    planned_items: u64,
    namespaces: u32,
    namespaces_max: u32,
    clock: &'static str,
    clock_tolerance_ms: u64,
    stripes: u32,
    clients_max: u32,
    key_bytes_max: u64,
    value_bytes_max: u64,
    hash: &'a str,
    guard: String,
    checksums: bool,
    address: String,
    huge_pages: String,
    huge_page_bytes: u64,
    writable: bool,
    clients: Vec<JsonClient>,
    server: Option<u32>,
    held: Vec<JsonGuard>,
    leases_max: u32,
    leases: Vec<JsonLease>,
}

#[derive(Serialize)]
struct JsonClient {
    index: u32,
    generation: u32,
    pid: u32,
    state: &'static str,
    start_time: u64,
    pid_namespace: u64,
    attached: String,
    attached_unix_ms: u64,
    open_extents: u32,
    guards: u32,
    hits: u64,
    misses: u64,
    puts: u64,
    deletes: u64,
}

#[derive(Serialize)]
struct JsonGuard {
    stripe: u32,
    client: u32,
    pid: u32,
    waiters: bool,
}

#[derive(Serialize)]
struct JsonLease {
    lease: u32,
    client: u32,
    pid: u32,
    held_ms: u64,
    waiters: bool,
}

pub(crate) fn run(_: InfoArgs, context: &mut Context) -> Result<Exit, Failure> {
    let format = context.output.format(Format::Table, &[Format::Json, Format::Jsonl])?;
    let info = context.reader()?.info()?;
    match format.is_json() {
        true => context.output.json(&json(&info, &context.store))?,
        false => show(&info, &context.store, &mut context.output)?,
    }
    Ok(Exit::Done)
}

/// What was asked for, and what was got.
pub(super) fn huge_pages(info: &Info) -> String {
    let got = match info.huge_page_bytes {
        0 => "none".to_owned(),
        bytes => format!("{} of {}", human::size(bytes), human::size(info.segment_bytes)),
    };
    match info.huge_pages {
        HugePages::Default => got,
        asked => format!("{asked} ones asked for; {got}"),
    }
}

fn show(info: &Info, store: &str, output: &mut Output) -> Result<(), Failure> {
    let extents = format!(
        "{} of {}, {} at most",
        human::count(info.extents.into()),
        human::size(info.extent_bytes),
        human::count(info.extents_max.into())
    );
    if info.removed_when_detached {
        output::notice(super::RMID_FORCED);
    }
    output.pairs(&[
        ("store", store.to_owned()),
        ("name", info.name.clone()),
        ("backing", backing(info)),
        ("uuid", info.uuid.clone()),
        ("format version", info.format_version.to_string()),
        ("mode", mode(info)),
        ("created", human::date(info.created_unix_ms)),
        ("size", human::exact_size(info.segment_bytes)),
        ("largest size", human::exact_size(info.max_segment_bytes)),
        ("resident", human::size(info.resident_bytes)),
        ("largest arena", human::size(info.max_arena_bytes)),
        ("extents", extents),
        ("buckets", human::count(info.buckets)),
        ("overflow lines", human::count(info.overflow_lines)),
        ("planned items", human::count(info.planned_items)),
        ("namespaces", format!("{} of at most {}", info.namespaces, info.namespaces_max)),
        ("clock", format!("{}, to within {:?}", info.clock, info.clock_tolerance)),
        ("longest key", human::exact_size(info.key_bytes_max)),
        ("largest value", human::exact_size(info.value_bytes_max)),
        ("hash", info.hash.to_owned()),
        ("guards", format!("{}, {} stripes", info.guard, human::count(info.stripes.into()))),
        ("checksums", if info.checksums { "on" } else { "off" }.to_owned()),
        ("mapped at", format!("{:#x}", info.address)),
        ("huge pages", huge_pages(info)),
        (
            "writing clients",
            format!("{} of {}", info.clients.len(), human::count(info.clients_max.into())),
        ),
        ("server", info.server.map_or("none".to_owned(), |pid| format!("process {pid}"))),
        ("guards held", info.held.len().to_string()),
        (
            "values being computed",
            format!("{}, {} leases", info.leases.len(), human::count(info.leases_max.into())),
        ),
    ])?;
    if !info.clients.is_empty() {
        let rows: Vec<Vec<String>> = info.clients.iter().map(client_row).collect();
        output.line("")?;
        let header = [
            "client",
            "generation",
            "pid",
            "state",
            "start time",
            "pid namespace",
            "attached",
            "open extents",
            "guards",
        ];
        output.table(&header, &rows, &[0, 1, 2, 4, 5, 7, 8])?;
    }
    if !info.held.is_empty() {
        let rows: Vec<Vec<String>> = info.held.iter().map(guard_row).collect();
        output.line("")?;
        output.table(&["stripe", "client", "pid", "waiters"], &rows, &[0, 1, 2])?;
    }
    if !info.leases.is_empty() {
        let rows: Vec<Vec<String>> = info.leases.iter().map(lease_row).collect();
        output.line("")?;
        output.table(
            &["lease", "client", "pid", "computing for", "waiters"],
            &rows,
            &[0, 1, 2, 3],
        )?;
    }
    Ok(())
}

/// What a full store does, and whether it learns from readers.
fn mode(info: &Info) -> String {
    match info.heat_permissions {
        0 => info.mode.to_string(),
        permissions => format!("{}; readers mark what they look up ({permissions:04o})", info.mode),
    }
}

/// What holds its memory, with the seals of a memfd and what they mean.
fn backing(info: &Info) -> String {
    let mut text = info.backing.to_string();
    if !info.seals.is_empty() {
        text += &format!(", sealed: {}", info.seals.join(" "));
    }
    if info.read_only_for_good {
        text += "; read-only for good, since no client that writes lives";
    }
    text
}

fn client_row(client: &ClientInfo) -> Vec<String> {
    vec![
        client.index.to_string(),
        client.generation.to_string(),
        client.pid.to_string(),
        state(client.state).to_owned(),
        client.start_time.to_string(),
        client.pid_namespace.to_string(),
        human::date(client.attached_unix_ms),
        client.open_extents.to_string(),
        client.guards.to_string(),
    ]
}

fn lease_row(lease: &HeldLease) -> Vec<String> {
    vec![
        lease.lease.to_string(),
        lease.client.to_string(),
        lease.pid.to_string(),
        format!("{} ms", human::count(lease.held_ms)),
        yes_or_no(lease.waiters),
    ]
}

fn yes_or_no(waiters: bool) -> String {
    if waiters { "yes" } else { "no" }.to_owned()
}

fn guard_row(guard: &HeldGuard) -> Vec<String> {
    vec![
        guard.stripe.to_string(),
        guard.client.to_string(),
        guard.pid.to_string(),
        yes_or_no(guard.waiters),
    ]
}

fn state(state: ClientState) -> &'static str {
    match state {
        ClientState::Alive => "alive",
        ClientState::Dead => "dead",
        ClientState::Zombie => "zombie",
        ClientState::Executed => "exec'ed",
        ClientState::ForeignNamespace => "foreign namespace",
        ClientState::Unknown => "unknown",
        _ => "other",
    }
}

fn json<'a>(info: &'a Info, store: &'a str) -> JsonInfo<'a> {
    JsonInfo {
        store,
        name: &info.name,
        backing: info.backing.to_string(),
        seals: &info.seals,
        read_only_for_good: info.read_only_for_good,
        removed_when_detached: info.removed_when_detached,
        uuid: &info.uuid,
        format_version: info.format_version,
        mode: info.mode.to_string(),
        heat_permissions: format!("{:04o}", info.heat_permissions),
        created: human::date(info.created_unix_ms),
        created_unix_ms: info.created_unix_ms,
        segment_bytes: info.segment_bytes,
        max_segment_bytes: info.max_segment_bytes,
        resident_bytes: info.resident_bytes,
        max_arena_bytes: info.max_arena_bytes,
        extent_bytes: info.extent_bytes,
        extents: info.extents,
        extents_max: info.extents_max,
        buckets: info.buckets,
        overflow_lines: info.overflow_lines,
        planned_items: info.planned_items,
        namespaces: info.namespaces,
        namespaces_max: info.namespaces_max,
        clock: info.clock,
        clock_tolerance_ms: info.clock_tolerance.as_millis() as u64,
        stripes: info.stripes,
        clients_max: info.clients_max,
        key_bytes_max: info.key_bytes_max,
        value_bytes_max: info.value_bytes_max,
        hash: info.hash,
        guard: info.guard.to_string(),
        checksums: info.checksums,
        // As text: a JSON number holds 53 bits for most readers.
        address: format!("{:#x}", info.address),
        huge_pages: info.huge_pages.to_string(),
        huge_page_bytes: info.huge_page_bytes,
        writable: info.writable,
        clients: info.clients.iter().map(json_client).collect(),
        server: info.server,
        held: info.held.iter().map(json_guard).collect(),
        leases_max: info.leases_max,
        leases: info.leases.iter().map(json_lease).collect(),
    }
}

fn json_client(client: &ClientInfo) -> JsonClient {
    JsonClient {
        index: client.index,
        generation: client.generation,
        pid: client.pid,
        state: state(client.state),
        start_time: client.start_time,
        pid_namespace: client.pid_namespace,
        attached: human::date(client.attached_unix_ms),
        attached_unix_ms: client.attached_unix_ms,
        open_extents: client.open_extents,
        guards: client.guards,
        hits: client.counts.hits,
        misses: client.counts.misses,
        puts: client.counts.puts,
        deletes: client.counts.deletes,
    }
}

fn json_lease(lease: &HeldLease) -> JsonLease {
    let HeldLease { lease, client, pid, held_ms, waiters, .. } = *lease;
    JsonLease { lease, client, pid, held_ms, waiters }
}

fn json_guard(guard: &HeldGuard) -> JsonGuard {
    let HeldGuard { stripe, client, pid, waiters, .. } = *guard;
    JsonGuard { stripe, client, pid, waiters }
}
