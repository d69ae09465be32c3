//! `ls`: the stores in this host's shared memory, unfinished and orphaned ones too.

use nix::unistd::{Gid, Group, Uid, User};
use serde::Serialize;
use store_client::{Backing, Listing, ListingState};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::output::{self, Format};

/// List the stores in this host's shared memory
///
/// POSIX and System V shared memory, and memfds of processes that this user may look into. Stores
/// in files are not listed: `info --store SPEC` shows one. Also System V semaphores that were the
/// guards of a store, and that nobody uses. `attached` counts the processes that map
/// a store, as far as this user may look; of System V it is exact.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {}

#[derive(Serialize)]
struct Row {
    store: String,
    backing: String,
    owner: String,
    group: String,
    uid: u32,
    gid: u32,
    permissions: String,
    size: u64,
    resident: u64,
    attached: u64,
    state: String,
}

pub(crate) fn run(_: LsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let others = [Format::Json, Format::Jsonl, Format::Raw];
    let format = context.output.format(Format::Table, &others)?;
    let listings =
        store_client::list().map_err(|error| Failure::system("listing the stores", &error))?;
    if store_client::removed_when_detached()
        && listings.iter().any(|listing| listing.backing == Backing::SystemV)
    {
        output::notice(super::RMID_FORCED);
    }
    let rows: Vec<Row> = listings.iter().map(row).collect();
    let output = &mut context.output;
    match format {
        Format::Json => output.json(&rows)?,
        Format::Jsonl => rows.iter().try_for_each(|row| output.json(row))?,
        Format::Raw => rows.iter().try_for_each(|row| output.line(&row.store))?,
        Format::Table if rows.is_empty() => {
            output.line("no stores; make one with `kv-cli create`")?;
        }
        Format::Table => {
            let cells: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
            let header =
                ["store", "owner", "group", "mode", "size", "resident", "attached", "state"];
            output.table(&header, &cells, &[4, 5, 6])?;
        }
    }
    Ok(Exit::Done)
}

fn row(listing: &Listing) -> Row {
    let user = User::from_uid(Uid::from_raw(listing.owner_uid)).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(listing.owner_gid)).ok().flatten();
    Row {
        store: listing.name.clone(),
        backing: listing.backing.to_string(),
        owner: user.map_or_else(|| listing.owner_uid.to_string(), |user| user.name),
        group: group.map_or_else(|| listing.owner_gid.to_string(), |group| group.name),
        uid: listing.owner_uid,
        gid: listing.owner_gid,
        permissions: format!("{:04o}", listing.permissions & 0o7777),
        size: listing.size,
        resident: listing.resident,
        attached: listing.attached,
        state: state(&listing.state),
    }
}

fn cells(row: Row) -> Vec<String> {
    let (size, resident) = (human::size(row.size), human::size(row.resident));
    let attached = human::count(row.attached);
    vec![row.store, row.owner, row.group, row.permissions, size, resident, attached, row.state]
}

/// A state in a few words.
pub(super) fn state(state: &ListingState) -> String {
    match state {
        ListingState::Ready => "ready".to_owned(),
        ListingState::Unfinished => "unfinished".to_owned(),
        ListingState::Empty => "empty".to_owned(),
        ListingState::Abandoned => "never finished, creator died".to_owned(),
        ListingState::Retired => "destroyed, but for its name".to_owned(),
        ListingState::Removed => "removed, goes with its last detach".to_owned(),
        ListingState::Orphaned => "orphaned, its registration is lost".to_owned(),
        ListingState::RegisteredElsewhere => "registered in another user namespace".to_owned(),
        ListingState::Stale => "registered, its segment is gone".to_owned(),
        ListingState::UnusedSemaphores => "guards of a store, no client uses them".to_owned(),
        ListingState::OtherNamespace => "of another IPC namespace".to_owned(),
        ListingState::OtherVersion(version) => format!("format version {version}"),
        ListingState::NoPermission => "no permission".to_owned(),
        ListingState::Unreadable(why) => format!("unreadable: {why}"),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_words() {
        assert_eq!(state(&ListingState::Ready), "ready");
        assert_eq!(state(&ListingState::OtherVersion(3)), "format version 3");
        assert!(state(&ListingState::Unreadable("why".to_owned())).contains("why"));
    }
}
