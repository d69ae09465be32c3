//! What this process's time namespace adds to the clocks of the machine.
//!
//! The kernel shows a process the monotonic clocks, and the start times of processes, with the
//! offsets of its own time namespace (Linux 5.6). What is in a store is without them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Nanoseconds that a time namespace adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Offsets {
    pub(super) monotonic_ns: i128,
    pub(super) boot_ns: i128,
}

/// Those of this process. `None`: it made a namespace for its children, and the kernel shows the
/// offsets of that one only.
///
/// # Errors
/// Where `/proc` can't be read, as without a free descriptor.
pub(super) fn own_offsets() -> io::Result<Option<Offsets>> {
    // Of the thread: the first one may have ended before the process.
    let own = match fs::metadata("/proc/thread-self/ns/time") {
        Ok(own) => own.ino(),
        // A kernel without time namespaces, or there is no `/proc`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Offsets::default()));
        }
        Err(error) => return Err(error),
    };
    let shown = fs::metadata("/proc/self/ns/time_for_children");
    if shown.is_ok_and(|shown| shown.ino() == own) {
        Ok(parsed(&fs::read_to_string("/proc/self/timens_offsets")?))
    } else {
        Ok(None)
    }
}

/// Lines of a clock's name, seconds, and nanoseconds, which are never negative.
fn parsed(text: &str) -> Option<Offsets> {
    let of = |clock: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<i64>);
        let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    };
    Some(Offsets { monotonic_ns: of("monotonic ")?, boot_ns: of("boottime ")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;
    use crate::sys::kernel_text;

    proptest! {
        #[test]
        fn whatever_is_shown_is_answered(text in kernel_text(), seconds: i64, nanos: i64) {
            let _ = parsed(&text);
            let of = |clock| format!("{clock} {seconds} {nanos}\n");
            assert!(parsed(&(of("monotonic") + &of("boottime"))).is_some());
        }
    }

    #[test]
    fn what_the_kernel_shows_is_understood() {
        let text = "monotonic           1000         0\nboottime             -10 500000000\n";
        let offsets = Offsets { monotonic_ns: 1_000_000_000_000, boot_ns: -9_500_000_000 };
        assert_eq!(parsed(text), Some(offsets));
        assert_eq!(parsed(""), None);
    }
}
