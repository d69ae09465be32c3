//! The processes of a run, from within: what each is started for.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use store_benches::servers::Server;
use store_benches::worker::Parent;

use crate::engine::Setting;
use crate::engines::Kind;
use crate::limit::{self, Extent};
use crate::silent;

/// What a process is started for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Has an engine.
    Engine { kind: Kind, setting: Setting, attach: bool },
    /// Has memory to read.
    Limit { extent: Extent, makes: bool },
    /// Becomes a server.
    Server(Server),
    /// Puts without a system call, or dies.
    Silent { setting: Setting, puts: u32, seed: u64 },
}

/// Does it.
pub(crate) fn work(job: Job, parent: &mut Parent) -> Result<()> {
    match job {
        Job::Engine { kind, setting, attach } => kind.serve(&setting, attach, parent),
        Job::Limit { extent, makes } => limit::serve(&extent, makes, parent),
        Job::Server(server) => server.execute(),
        Job::Silent { setting, puts, seed } => silent::serve(&setting, puts, seed, parent),
    }
}
