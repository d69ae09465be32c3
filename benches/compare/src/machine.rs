//! What the run was made on.

use std::fs;
use std::thread;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    virtual_machine: bool,
    kernel: String,
    memory_gib: f64,
    /// What the machine does by itself; every process of the run gives it up.
    transparent_huge_pages: String,
    load_before: String,
    pub(crate) load_after: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = read("/proc/meminfo");
        let kib =
            memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        Self {
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: thread::available_parallelism().map_or(1, usize::from),
            virtual_machine: field("flags").is_some_and(|flags| flags.contains("hypervisor")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gib: (kib.unwrap_or(0.0_f64) / f64::from(1 << 20) * 10.0).round() / 10.0,
            transparent_huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled")
                .trim()
                .to_owned(),
            load_before: load(),
            load_after: String::new(),
        }
    }

    /// One paragraph for people.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} ({} processors{}), {} GiB, Linux {}; transparent huge pages: {} (each process of the run \
             gives them up: all pages have 4 KiB); load average {} before and {} after.",
            self.processor,
            self.processors,
            if self.virtual_machine { ", virtual machine" } else { "" },
            self.memory_gib,
            self.kernel,
            self.transparent_huge_pages,
            self.load_before,
            self.load_after,
        )
    }
}

/// How much else there was to do.
pub(crate) fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
