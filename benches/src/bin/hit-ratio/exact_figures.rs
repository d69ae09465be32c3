//! The exact policies on the recorded traces, held to what others' simulations found.

use indicatif::ProgressBar;

use crate::fifo::Fifo;
use crate::lru::Lru;
use crate::s3_fifo::S3Fifo;
use crate::subject::{Subject, play};
use crate::traces::{RECORDINGS, folder};

/// A capacity, and the hit ratios of FIFO, LRU and S3-FIFO in ten-thousandths.
type Known = (u32, [u32; 3]);

/// Of each recording.
const FIGURES: [(&str, &[Known]); 3] = [
    (
        "OLTP",
        &[
            (1_868, [3659, 4163, 4646]),
            (9_344, [5660, 6008, 6211]),
            (18_688, [6334, 6652, 6778]),
            (37_376, [6927, 7197, 7260]),
        ],
    ),
    (
        "cloudPhysicsIO",
        &[(2_448, [1734, 1754, 1974]), (4_897, [1946, 1951, 2475]), (9_794, [2872, 2751, 3220])],
    ),
    (
        "P3",
        &[(38_127, [458, 433, 1941]), (76_254, [1763, 1681, 3391]), (152_508, [4445, 5029, 5344])],
    ),
];

#[test]
fn exact_policies_have_the_hit_ratios_that_are_known() {
    for (recording, (name, rows)) in RECORDINGS.iter().zip(FIGURES) {
        assert_eq!(recording.name, name);
        let capacities = recording.percents.iter().map(|percent| recording.capacity(*percent));
        assert!(capacities.eq(rows.iter().map(|(capacity, _)| *capacity)), "{name}");

        let trace = recording.read(&folder()).expect("a recording of this repository");
        for (capacity, known) in rows {
            let subjects: [Box<dyn Subject>; 3] = [
                Box::new(Fifo::new(*capacity, trace.keys)),
                Box::new(Lru::new(*capacity, trace.keys)),
                Box::new(S3Fifo::new(*capacity, trace.keys)),
            ];
            let found = subjects.map(|mut subject| {
                let played = play(&trace, subject.as_mut(), &ProgressBar::hidden());
                let played = played.expect("an exact policy never fails");
                assert_eq!(played.items_max, u64::from(*capacity), "{name} at {capacity}");
                (played.hit_ratio * 1e4).round() as u32
            });
            assert_eq!(found, *known, "{name} at {capacity}: FIFO, LRU, S3-FIFO");
        }
    }
}
