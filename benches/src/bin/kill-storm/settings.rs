//! The stores that a storm goes over: small ones, so that what is rare in large ones is frequent.

use store_core::{CreateOptions, Mode};

/// One kind of store, and what is done to it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    size_kib: u64,
    max_size_kib: Option<u64>,
    /// Items that the index is laid out for.
    items: u64,
    /// Rolling keys that each slot keeps.
    pub(crate) rolling: u64,
    /// Bytes of the value of a rolling key, at most.
    pub(crate) rolling_bytes: usize,
    /// Of the arena, in percent, what stands from beginning to end.
    pub(crate) ballast_percent: u64,
    /// Half of the keys are in a namespace with a quota.
    pub(crate) namespace: bool,
}

/// In this order, over and over.
pub(crate) const SETTINGS: [Setting; 7] = [
    Setting {
        name: "few keys",
        mode: Mode::Store,
        size_kib: 1024,
        max_size_kib: None,
        items: 64,
        rolling: 8,
        rolling_bytes: 64,
        ballast_percent: 0,
        namespace: false,
    },
    Setting {
        name: "cleaning",
        mode: Mode::Store,
        size_kib: 1024,
        max_size_kib: None,
        items: 1000,
        rolling: 200,
        rolling_bytes: 600,
        ballast_percent: 40,
        namespace: false,
    },
    Setting {
        name: "large values",
        mode: Mode::Store,
        size_kib: 1536,
        max_size_kib: None,
        items: 64,
        rolling: 14,
        rolling_bytes: 40_000,
        ballast_percent: 10,
        namespace: false,
    },
    Setting {
        name: "a growing index",
        mode: Mode::Store,
        size_kib: 512,
        max_size_kib: Some(4096),
        items: 8,
        rolling: 4000,
        rolling_bytes: 24,
        ballast_percent: 0,
        namespace: false,
    },
    Setting {
        name: "eviction",
        mode: Mode::Cache,
        size_kib: 640,
        max_size_kib: None,
        items: 1000,
        rolling: 1_000_000,
        rolling_bytes: 600,
        ballast_percent: 0,
        namespace: false,
    },
    Setting {
        name: "eviction of large values",
        mode: Mode::Cache,
        size_kib: 1024,
        max_size_kib: None,
        items: 200,
        rolling: 1_000_000,
        rolling_bytes: 40_000,
        ballast_percent: 0,
        namespace: false,
    },
    Setting {
        name: "a namespace with a quota",
        mode: Mode::Cache,
        size_kib: 1536,
        max_size_kib: None,
        items: 1500,
        rolling: 1_000_000,
        rolling_bytes: 300,
        ballast_percent: 0,
        namespace: true,
    },
];

impl Setting {
    pub(crate) fn options(&self) -> CreateOptions {
        let options = CreateOptions::new(self.size_kib << 10)
            .extent_size(4 << 10)
            .items(self.items)
            .mode(self.mode)
            .checksums(true);
        match self.max_size_kib {
            Some(max) => options.max_size(max << 10),
            None => options,
        }
    }

    /// Whether items that nobody deleted may be gone.
    pub(crate) fn evicts(&self) -> bool {
        self.mode == Mode::Cache
    }
}
