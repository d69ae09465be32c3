//! In the end: the store's content held against what the writers say was acknowledged.
//!
//! Writes of one key happen one after another, so of a key that both writers wrote exactly one of
//! their *last* writes stands: what one of them wrote before its own last write can't.

use store_benches::records::{Stamp, verify};
use store_benches::tally::Tally;
use store_client::Reader;

use crate::keyset::{Acknowledged, Class, FIRST_SEQ, Keyset, PARENT, number};

pub(crate) fn hold_to(
    store: &Reader,
    keyset: &Keyset,
    acknowledged: &[Acknowledged],
    tally: &mut Tally,
) {
    for (index, key) in keyset.of(Class::Always).iter().enumerate() {
        let last: Vec<_> = acknowledged.iter().map(|by| (by.writer, by.always[index])).collect();
        hold_value(store, key, &last, true, tally);
    }
    for (index, key) in keyset.of(Class::Roaming).iter().enumerate() {
        let last: Vec<_> = acknowledged.iter().map(|by| (by.writer, by.roaming[index])).collect();
        hold_value(store, key, &last, false, tally);
    }
    for by in acknowledged {
        for (key, &seq) in keyset.of(Class::Private(by.writer)).iter().zip(&by.private) {
            hold_value(store, key, &[(by.writer, seq)], true, tally);
        }
    }
    for (index, key) in keyset.of(Class::Counter).iter().enumerate() {
        let sum = acknowledged.iter().map(|by| by.counters[index]).sum();
        hold_number(store, key, sum, tally);
    }
    for (index, key) in keyset.of(Class::Ballot).iter().enumerate() {
        let sum = acknowledged.iter().map(|by| by.ballots[index]).sum();
        hold_number(store, key, sum, tally);
    }
}

/// `last`: each writer's last sequence number, 0 after a delete. `always`: the parent put the key
/// first, and nobody deletes it.
fn hold_value(store: &Reader, key: &[u8], last: &[(u8, u32)], always: bool, tally: &mut Tally) {
    let Some(found) = tally.answer(store.get(key)) else {
        return tally.error("a lookup found no quiet moment although nobody writes");
    };
    tally.reads += 1;
    let stamp = match found.map(|value| verify(key, &value)) {
        Some(Err(torn)) => return tally.torn(torn.to_string()),
        Some(Ok(stamp)) => Some(stamp),
        None => None,
    };
    if always && stamp.is_none() {
        tally.missed(key);
    } else if !may_stand(stamp, last, always) {
        let name = String::from_utf8_lossy(key);
        tally.lost(format!("{name} is of {stamp:?}, the last writes were {last:?}"));
    }
}

fn may_stand(found: Option<Stamp>, last: &[(u8, u32)], always: bool) -> bool {
    match found {
        // Somebody's last write must have been a delete, or nobody wrote.
        None => !always && last.iter().any(|&(_, seq)| seq == 0),
        Some(Stamp { writer: PARENT, seq }) => {
            always && seq == FIRST_SEQ && last.iter().all(|&(_, seq)| seq == 0)
        }
        Some(Stamp { writer, seq }) => last.contains(&(writer, seq)),
    }
}

fn hold_number(store: &Reader, key: &[u8], sum: u64, tally: &mut Tally) {
    let Some(found) = tally.answer(store.get(key)) else {
        return tally.error("a lookup found no quiet moment although nobody writes");
    };
    tally.reads += 1;
    let name = String::from_utf8_lossy(key);
    match found.as_deref().map(number) {
        None => tally.missed(key),
        Some(None) => tally.torn(format!("{name} is no number")),
        Some(Some(number)) if number == sum => {}
        Some(Some(number)) => {
            tally.lost(format!("{name} is {number}, acknowledged were {sum}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stamp, may_stand};

    fn of(writer: u8, seq: u32) -> Option<Stamp> {
        Some(Stamp { writer, seq })
    }

    #[test]
    fn only_a_last_write_stands() {
        let last = [(1, 7), (2, 4)];
        assert!(may_stand(of(1, 7), &last, true));
        assert!(may_stand(of(2, 4), &last, true));
        assert!(!may_stand(of(1, 6), &last, true));
        assert!(!may_stand(of(2, 7), &last, true));
        assert!(!may_stand(of(0, 1), &last, true), "the parent's is overwritten");
        assert!(!may_stand(None, &last, false), "nobody's last write is a delete");
    }

    #[test]
    fn a_delete_makes_room_for_absence_but_not_for_older_writes() {
        let last = [(1, 0), (2, 4)];
        assert!(may_stand(None, &last, false));
        assert!(may_stand(of(2, 4), &last, false));
        assert!(!may_stand(of(1, 3), &last, false));
    }

    #[test]
    fn the_first_value_stands_until_somebody_writes() {
        assert!(may_stand(of(0, 1), &[(1, 0), (2, 0)], true));
        assert!(!may_stand(None, &[(1, 0), (2, 0)], true));
    }
}
