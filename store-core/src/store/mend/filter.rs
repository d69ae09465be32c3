//! The words of the filter that a stripe has.

use super::RepairReport;
use crate::error::Corruption;
use crate::index::filter;
use crate::region::Shim;
use crate::store::Store;

impl<S: Shim> Store<S> {
    /// Sets the words of a stripe to what its items ask for. Under its guard.
    pub(super) fn mend_filter(
        &self,
        stripe: u32,
        report: &mut RepairReport,
    ) -> Result<(), Corruption> {
        let words = &self.segment.filter;
        let stripes = self.segment.geometry.stripes as usize;
        for bucket in (u64::from(stripe)..words.count()).step_by(stripes) {
            let bits = filter::asked_for(&self.segment, bucket, u32::MAX)?;
            // Bits that are set and need not be are no damage: a crash may leave them.
            report.filters += u64::from(bits & !words.load(bucket) != 0);
            words.set::<S>(bucket, bits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CreateOptions;
    use crate::region::Plain;
    use crate::store::{Condition, PutOptions, RepairOptions, Session, private_on_heap};

    fn put(store: &Store<Plain>, session: &Session, key: u32) {
        let (options, always) = (PutOptions::new(), Condition::Always);
        store.put(session, &key.to_le_bytes(), b"value", &options, always).expect("a put");
    }

    /// A store with more items than its index was laid out for, by so many times.
    fn store_of(items: u32, times: u32) -> (Store<Plain>, Session) {
        let options = CreateOptions::new(4 << 20).items((items / times).into());
        let store: Store<Plain> = private_on_heap(&options, 3).expect("a store");
        let session = store.open_session().expect("an entry");
        (0..items).for_each(|key| put(&store, &session, key));
        (store, session)
    }

    /// Share of keys that are not there which the filter rules out.
    fn ruled_out(store: &Store<Plain>) -> f64 {
        let absent = (1 << 20..(1 << 20) + 10_000_u32).map(u32::to_le_bytes);
        let rules_out = |key: &[u8; 4]| {
            store.segment.filter.rules_out(store.segment.hasher.hash(key.as_slice()))
        };
        absent.filter(rules_out).count() as f64 / 10_000.0
    }

    fn words_are_what_items_ask_for(store: &Store<Plain>) {
        let words = &store.segment.filter;
        for bucket in 0..words.count() {
            let asked = filter::asked_for(&store.segment, bucket, u32::MAX);
            let asked = asked.expect("whole chains");
            assert_eq!(words.load(bucket), asked, "word {bucket}");
        }
    }

    #[test]
    fn bits_come_and_go_with_items() {
        for times in [1, 3] {
            let (store, session) = store_of(9000, times);
            words_are_what_items_ask_for(&store);
            let full = ruled_out(&store);
            for key in (0..9000_u32).filter(|key| key % 10 > 0) {
                assert!(store.delete(&session, &key.to_le_bytes()).expect("a delete"));
            }
            words_are_what_items_ask_for(&store);
            assert!(ruled_out(&store) > full && ruled_out(&store) > 0.95, "{}", ruled_out(&store));
            (0..9000).for_each(|key| put(&store, &session, key));
            words_are_what_items_ask_for(&store);
            assert!((ruled_out(&store) - full).abs() < 0.05);
            if times == 1 {
                assert!(full > 0.92, "{full}");
            }
            assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
            store.clear(&session).expect("a clear");
            words_are_what_items_ask_for(&store);
            assert!(ruled_out(&store) > 0.999);
        }
    }

    #[test]
    fn growth_beyond_the_filter_loses_nothing() {
        let (store, session) = store_of(20_000, 100);
        for key in 0..20_000_u32 {
            assert_eq!(store.get(&key.to_le_bytes()), Ok(Some(b"value".to_vec())));
            assert!(store.delete(&session, &key.to_le_bytes()).expect("a delete"));
            assert_eq!(store.get(&key.to_le_bytes()), Ok(None));
        }
        assert!(store.segment.index_size().buckets() > 8 * store.segment.filter.count());
    }

    #[test]
    fn a_damaged_filter_is_seen_and_mended() {
        let (store, session) = store_of(5000, 1);
        let words = &store.segment.filter;
        for bucket in (0..words.count()).step_by(7) {
            words.set::<Plain>(bucket, 0);
        }
        // Lookups after a miss ask it: that is why it must be right.
        let is_missed = |key: u32| {
            assert_eq!(store.get(b"absent"), Ok(None));
            store.get(&key.to_le_bytes()) == Ok(None)
        };
        let missed = (0..5000).filter(|key| is_missed(*key)).count();
        assert!(missed > 500, "{missed}");
        let report = store.check(|_, _| {});
        assert!(report.violations_total >= missed as u64);
        assert!(report.violations[0].contains("the filter rules the key out"));
        let repaired = store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("a repair");
        assert_eq!((repaired.items, repaired.dropped), (5000, 0));
        assert!(repaired.filters > words.count() / 8, "{}", repaired.filters);
        words_are_what_items_ask_for(&store);
        assert!((0..5000_u32).all(|key| store.contains(&key.to_le_bytes()) == Ok(true)));
        let again = store.repair(&session, &RepairOptions::new(), |_, _| {}).expect("a repair");
        assert_eq!(again.filters, 0);
    }

    #[test]
    fn fewer_buckets_than_words_are_refused() {
        let (store, session) = store_of(600, 1);
        let words = store.segment.filter.count();
        store.segment.superblock().index_size.store::<Plain>(words - 1);
        assert!(store.check(|_, _| {}).violations[0].contains("the number of buckets"));
        assert!(store.repair(&session, &RepairOptions::new(), |_, _| {}).is_err());
        store.segment.superblock().index_size.store::<Plain>(words);
        assert_eq!(store.check(|_, _| {}).violations, Vec::<String>::new());
        words_are_what_items_ask_for(&store);
    }
}
