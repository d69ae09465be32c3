//! A server that an engine's process runs, and that others connect to.

use std::fs;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use store_benches::servers::{Program, Server};
use store_benches::worker::Worker;

use crate::engine::Setting;
use crate::limit::stay_on;
use crate::run::Job;

pub(crate) struct Served {
    server: Server,
    /// Of whoever started it.
    running: Option<Worker>,
    /// Where it and this process may run when they need not stay.
    anywhere: CpuSet,
}

impl Served {
    /// Starts a server that has room for the items.
    pub(crate) fn start(program: &Program, setting: &Setting) -> Result<Self> {
        let mut served = Self::find(program, setting)?;
        served.running = Some(Worker::spawn_alone(&Job::Server(served.server()?))?);
        Ok(served)
    }

    /// One that was started already.
    pub(crate) fn find(program: &Program, setting: &Setting) -> Result<Self> {
        let file = program.find().with_context(|| format!("no {}", program.name))?;
        let mib = 256 + (setting.data_bytes() >> 18);
        let folder = setting.folder.join(&setting.name);
        fs::create_dir_all(&folder).context("making a folder")?;
        let anywhere = sched_getaffinity(None).context("asking where this process may run")?;
        Ok(Self { server: program.server(file, &folder, mib), running: None, anywhere })
    }

    pub(crate) fn connect(&self) -> Result<UnixStream> {
        self.server.connect()
    }

    /// Keeps it and this process on one processor, or lets both go where they like.
    pub(crate) fn stay_on(&self, processor: Option<usize>) -> Result<()> {
        let server = self.running.as_ref().context("a server of this process")?.pid();
        let server = Pid::from_raw(server.try_into()?);
        ensure!(server.is_some(), "a server with a process id");
        for process in [server, None] {
            match processor {
                Some(processor) => stay_on(process, processor)?,
                None => sched_setaffinity(process, &self.anywhere)
                    .context("going where a process likes")?,
            }
        }
        Ok(())
    }

    fn server(&self) -> Result<Server> {
        // It goes to another process as what it is told.
        Ok(serde_json::from_value(serde_json::to_value(&self.server)?)?)
    }
}
