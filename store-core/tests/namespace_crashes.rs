//! Every prefix of the stores of what is done to namespaces and in them, applied to a copy of the
//! segment: another process recovers, and finds what was there before or after, or a removal that can
//! be begun again.

use store_core::Mode;
use store_testing::crash::{Seen, Walk};
use store_testing::tenants::{Op, Tenants, sequence};
use store_testing::trace::Logging;

#[test]
fn every_prefix_of_what_is_done_to_namespaces_recovers() {
    for mode in [Mode::Store, Mode::Cache] {
        let mut seen = Seen::default();
        let mut tenants = Tenants::<Logging>::new(mode);
        let mut walk = Walk::new("namespaces", 1, 7);
        let certain = [
            Op::Create("new", Some(9)),
            Op::Put(Some("new"), 3, 9000),
            Op::Change("new", 12),
            Op::Remove("quota"),
            Op::Create("quota", None),
            Op::Remove("none"),
        ];
        let len = if cfg!(debug_assertions) { 12 } else { 120 };
        for op in certain.into_iter().chain(sequence(5, len)) {
            assert!(walk.step(&mut tenants, &op, &mut seen), "{:?}", seen.texts);
        }
        assert!(seen.states() > 1500, "only {} states", seen.states());
        assert_eq!(seen.violations, 0, "{:#?}", seen.texts);
    }
}
