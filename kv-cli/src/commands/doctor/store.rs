//! Looks at one store: its room, its mode, who writes to it, what pages it has.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use store_client::{AttachError, Backing, ClientState, Cursor, Info, Reader, Spec};

use super::finding::{Finding, Level};
use super::host::{Host, ownership, room};
use super::kernel::FIRST_PERSON;
use crate::exit::Failure;
use crate::human::{plural, size};

/// With less of it nothing of a store can be found.
const SUPERBLOCK_BYTES: u64 = 4096;
/// Keys that are looked at.
const KEYS_SEEN: usize = 10_000;

/// What was read of a store and its writers.
struct Reading {
    info: Info,
    /// Bytes free where it is; `None` where that is memory.
    free: Option<u64>,
    /// Owner and permission bits.
    ownership: Option<(u32, u32)>,
    writers: Vec<Process>,
}

/// A process that writes to the store.
struct Process {
    pid: u32,
    stopped: bool,
    holds: bool,
    mappings: u64,
}

pub(super) fn judge(spec: &Spec, host: &Host) -> Vec<Finding> {
    let reader = match Reader::attach(spec) {
        Ok(reader) => reader,
        Err(error) => return vec![unopened(error, spec)],
    };
    let reading = match read(&reader, spec) {
        Ok(reading) => reading,
        Err(failure) => {
            let finding = failure.line().unwrap_or_default();
            let why = "what is in it makes no sense";
            return vec![Finding::of(Level::Problem, "store", finding, why, saving(spec))];
        }
    };
    let mut findings = vec![growth(&reading, host)];
    findings.extend(mode(&reading, spec));
    findings.extend(owner(&reading, host));
    findings.push(clients(&reading.info, spec));
    findings.extend(writers(&reading, host));
    findings.push(huge_pages(&reading.info));
    findings
}

/// Why it can't be opened.
fn unopened(error: AttachError, spec: &Spec) -> Finding {
    let remove = || format!("kv-cli rm --store {spec}");
    let (why, mend) = match &error {
        AttachError::NotFound { .. } | AttachError::Retired { .. } | AttachError::Stale { .. } => {
            let mend =
                format!("kv-cli create --store {spec}, or kv-cli ls for those that there are");
            ("there is no such store", mend)
        }
        AttachError::PermissionDenied { .. } => {
            let mend = format!("kv-cli chmod --store {spec} 0644, by its owner");
            ("this user may not read it", mend)
        }
        AttachError::NotAStore { .. }
        | AttachError::NotAFile { .. }
        | AttachError::SymbolicLink { .. } => {
            ("something that is no store has the name", "kv-cli ls for the stores".to_owned())
        }
        AttachError::Unfinished { creator_alive: true, .. } => {
            ("it is not whole yet", "wait for its creator, or kill -CONT it".to_owned())
        }
        AttachError::Unfinished { .. } => ("its creator died before it was whole", remove()),
        AttachError::Empty { .. } => ("there is nothing in it", remove()),
        AttachError::Truncated { found, .. } if *found < SUPERBLOCK_BYTES => {
            ("its beginning is all that is left of it", remove())
        }
        AttachError::Truncated { .. } => ("its end was cut off", saving(spec)),
        AttachError::UncleanReboot { .. } => {
            ("the machine went down while it was in use", saving(spec))
        }
        AttachError::Damaged { .. } | AttachError::Corruption(_) => {
            ("somebody wrote into it what makes no sense", saving(spec))
        }
        AttachError::OtherVersion { .. } | AttachError::UnknownFeatures { .. } => {
            let mend = "a program of the version that made it".to_owned();
            ("it was made by a program of another version", mend)
        }
        _ => ("it can't be opened", format!("kv-cli info --store {spec}")),
    };
    let finding = Failure::from(error).line().unwrap_or_default();
    Finding::of(Level::Problem, "store", finding, why, mend)
}

fn saving(spec: &Spec) -> String {
    format!("kv-cli salvage {spec} NEW-STORE")
}

fn read(reader: &Reader, spec: &Spec) -> Result<Reading, Failure> {
    // Else no page of it is mapped, and huge pages can't be told.
    reader.scan(Cursor::START, b"", KEYS_SEEN)?;
    let info = reader.info()?;
    let path = path_of(spec);
    let listed = || {
        let listed = store_client::list().unwrap_or_default();
        let of_it = listed.into_iter().find(|one| one.spec.as_ref() == Some(spec))?;
        Some((of_it.owner_uid, of_it.permissions & 0o777))
    };
    let held: Vec<u32> = info.held.iter().map(|guard| guard.pid).collect();
    let alive = info.clients.iter().filter(|client| client.state == ClientState::Alive);
    let writers = alive.map(|client| process(client.pid, held.contains(&client.pid))).collect();
    Ok(Reading {
        free: path.as_deref().and_then(Path::parent).and_then(room),
        ownership: path.as_deref().and_then(ownership).or_else(listed),
        writers,
        info,
    })
}

/// Where it is in a file system.
fn path_of(spec: &Spec) -> Option<PathBuf> {
    match spec {
        Spec::Posix(name) => Some(format!("/dev/shm/cistern.{name}").into()),
        Spec::File(path) => std::path::absolute(path).ok(),
        _ => None,
    }
}

fn process(pid: u32, holds: bool) -> Process {
    let text = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    let stat = text("stat").unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mappings = text("maps").map_or(0, |maps| maps.lines().count() as u64);
    Process { pid, stopped: state.starts_with(['T', 't']), holds, mappings }
}

fn growth(reading: &Reading, host: &Host) -> Finding {
    let check = "store room";
    let info = &reading.info;
    let grows = info.max_segment_bytes.saturating_sub(info.resident_bytes);
    let free = reading.free.unwrap_or(host.memory.available);
    let found = format!(
        "{} taken, {} at most, {} free where it is",
        size(info.resident_bytes),
        size(info.max_segment_bytes),
        size(free)
    );
    if grows <= free {
        return Finding::ok(check, found);
    }
    let why = "it can't grow to its largest size there: puts are refused before";
    let mend = match info.backing {
        Backing::Posix => "mount -o remount,size=… /dev/shm (docker run --shm-size=…)",
        Backing::File => "make room on the file system",
        _ => "more memory, or kv-cli trim and kv-cli rm on other stores",
    };
    Finding::of(Level::Warning, check, found, why, mend)
}

fn mode(reading: &Reading, spec: &Spec) -> Option<Finding> {
    let check = "store mode";
    let (uid, mode) = reading.ownership?;
    let owner = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let owner = owner.map_or_else(|| uid.to_string(), |user| user.name);
    let found = format!("{mode:04o}, of {owner}");
    if mode & 0o002 == 0 {
        return Some(Finding::ok(check, found));
    }
    let why = "every user of the machine may change and destroy what is in it";
    let mend = format!("kv-cli chmod --store {spec} 0660");
    Some(Finding::of(Level::Warning, check, found, why, mend))
}

/// Who owns it, if that is not this user, and what logind does with what such users own.
fn owner(reading: &Reading, host: &Host) -> Option<Finding> {
    let (uid, _) = reading.ownership?;
    if uid != host.uid && uid != 0 && host.uid != 0 {
        return Some(Finding::note(
            "store owner",
            format!("user {uid}, who is not this user"),
            "its owner may read, change and remove what is in it, whatever its mode",
        ));
    }
    let shared = matches!(reading.info.backing, Backing::Posix | Backing::SystemV);
    if host.removes_ipc != Some(true) || uid < FIRST_PERSON || !shared {
        return None;
    }
    Some(Finding::of(
        Level::Warning,
        "store owner",
        format!("user {uid}, and systemd's RemoveIPC is yes"),
        "logind removes the store when the last session of its owner ends",
        format!("loginctl enable-linger {uid}, or give it to a system user: kv-cli chown"),
    ))
}

fn clients(info: &Info, spec: &Spec) -> Finding {
    let check = "store clients";
    let in_state = |wanted: &[ClientState]| {
        info.clients.iter().filter(|client| wanted.contains(&client.state)).count() as u64
    };
    let alive = in_state(&[ClientState::Alive]);
    let dead = in_state(&[ClientState::Dead, ClientState::Zombie, ClientState::Executed]);
    let foreign = in_state(&[ClientState::ForeignNamespace, ClientState::Unknown]);
    let all = info.clients.len() as u64;
    let found = format!(
        "{}, {dead} dead, {foreign} of other namespaces or unknown, of {} at most",
        plural(alive, "living writer", "living writers"),
        info.clients_max
    );
    if all - dead >= u64::from(info.clients_max) * 9 / 10 {
        let why = "when all entries are taken, the next process that wants to write is refused";
        let mend = "a larger store has more: kv-cli dump, then kv-cli create --size …, kv-cli load";
        return Finding::of(Level::Warning, check, found, why, mend);
    }
    if foreign > 0 {
        let why = "who can't be seen from here counts as alive, and as long as it writes no process \
                   of this namespace may";
        return Finding::note(check, found, why);
    }
    if dead > 0 {
        let why = "what they held is taken over by the next writer that needs it";
        let mend = format!("store-server --store {spec} reaps them within a second");
        return Finding::of(Level::Note, check, found, why, mend);
    }
    Finding::ok(check, found)
}

fn writers(reading: &Reading, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Process { pid, stopped, holds, mappings } in &reading.writers {
        if *stopped {
            let level = if *holds { Level::Problem } else { Level::Warning };
            let holds = if *holds { "and holds a guard" } else { "and may hold a guard" };
            findings.push(Finding::of(
                level,
                "store writer",
                format!("process {pid} is stopped {holds}"),
                "it is never robbed: who needs that guard waits until its deadline and is refused",
                format!("kill -CONT {pid}, or kill -KILL {pid}"),
            ));
        }
        if host.maps_max.is_some_and(|limit| *mappings >= limit / 10 * 9) {
            findings.push(Finding::of(
                Level::Warning,
                "store writer",
                format!("process {pid} has {mappings} mappings"),
                "beyond vm.max_map_count it can attach no store, nor allocate",
                "sysctl -w vm.max_map_count=262144",
            ));
        }
    }
    findings
}

fn huge_pages(info: &Info) -> Finding {
    let check = "store huge pages";
    match info.huge_page_bytes {
        0 => Finding::note(
            check,
            "none in what was looked at",
            "with pages of 4 KiB a lookup in a large store waits longer for the translation of \
             addresses",
        ),
        bytes => Finding::ok(check, format!("{} of what was looked at", size(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_store_can_not_be_opened_is_told() {
        let name = || "/x".to_owned();
        let spec: Spec = "file:/x".parse().expect("a spec");
        for (error, why, mend) in [
            (AttachError::NotFound { name: name() }, "no such store", "create"),
            (AttachError::PermissionDenied { name: name(), access: "reading" }, "may not", "chmod"),
            (AttachError::NotAStore { name: name(), found: 1 }, "is no store", "ls"),
            (AttachError::Unfinished { name: name(), creator_alive: false }, "died", "rm"),
            (
                AttachError::Truncated { name: name(), found: 9999, expected: 99_999 },
                "cut",
                "salvage",
            ),
            (AttachError::Truncated { name: name(), found: 99, expected: 99_999 }, "left of", "rm"),
            (AttachError::Damaged { name: name() }, "makes no sense", "salvage"),
            (
                AttachError::OtherVersion { name: name(), found: 2, supported: 1 },
                "version",
                "version",
            ),
        ] {
            let finding = unopened(error, &spec);
            assert!(finding.why.is_some_and(|text| text.contains(why)), "{finding:?}");
            assert!(finding.mend.as_ref().is_some_and(|text| text.contains(mend)), "{finding:?}");
        }
    }
}
