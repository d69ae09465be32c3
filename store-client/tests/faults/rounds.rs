//! Clients that attach and are killed, again and again, leave everything as it was.

use std::time::Duration;

use store_client::{GuardKind, Writer};

use crate::alone;
use crate::place::{self, Place};
use crate::subject::{Kind, Scene, Subject, own_descriptors};
use crate::traced::{self, End};

/// How many, on each kind of memory [default: 500].
const ROUNDS: &str = "CISTERN_TEST_ROUNDS";

#[test]
fn killed_clients_leave_everything_as_it_was() {
    alone("rounds::helper_rounds");
}

#[test]
#[ignore = "a program for another test"]
fn helper_rounds() {
    place::make();
    let rounds = std::env::var(ROUNDS).map_or(500, |rounds| rounds.parse().expect("a number"));
    for (kind, guard) in [(Kind::Posix, GuardKind::Futex), (Kind::SysvName, GuardKind::SystemV)] {
        let subject = Subject::new(kind, guard, Scene::Attach);
        subject.prepare();
        let (place, descriptors) = (Place::now(&subject), own_descriptors());
        let mut seed = 1_u64;
        for _ in 0..rounds {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let micros = seed >> 33 & 0x7ff;
            let end = traced::killed_after(
                || write_without_end(&subject),
                || {
                    std::thread::sleep(Duration::from_micros(micros));
                },
            );
            assert_eq!(end, End::Killed);
        }
        assert_eq!(Place::now(&subject), place);
        assert_eq!(own_descriptors(), descriptors);
        assert_eq!(traced::plain(|| as_it_was(&subject)), "done\n");
        assert!(Place::now(&subject).is_empty(), "{:?}", Place::now(&subject));
        println!("faults: {subject:?}: {rounds} clients killed");
    }
}

fn write_without_end(subject: &Subject) -> String {
    let writer = Writer::attach(subject.spec().expect("a name")).expect("attaches");
    for number in 0_u32.. {
        writer.put(&(number % 100).to_le_bytes(), &[7; 500]).expect("a put");
    }
    "it ended\n".to_owned()
}

/// The entries are free, nobody holds a guard, and nothing is lost.
fn as_it_was(subject: &Subject) -> String {
    let writer = Writer::attach(subject.spec().expect("a name")).expect("attaches");
    writer.reap().expect("reaps");
    let info = writer.info().expect("info");
    assert_eq!((info.clients.len(), info.held.len(), info.leases.len()), (1, 0, 0));
    assert_eq!(writer.get(b"k").expect("a get").as_deref(), Some(&b"v"[..]));
    assert!((2..=101).contains(&writer.len()), "{}", writer.len());
    drop(writer);
    subject.verify(true)
}
