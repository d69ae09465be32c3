//! Redis or Valkey, by RESP.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::peer::{Client, Peer, Workload};

/// Commands that are sent before their answers are read.
const BATCH: u32 = 512;

pub(crate) const PEER: Peer =
    Peer { name: "redis", programs: &["redis-server", "valkey-server"], arguments, connect };

fn arguments(socket: &Path, mib: u64) -> Vec<String> {
    let (socket, mib) = (socket.display().to_string(), format!("{mib}mb"));
    let no_file = ["--save", "", "--appendonly", "no"];
    let listen = ["--port", "0", "--unixsocket", &socket];
    let memory = ["--maxmemory", &mib, "--maxmemory-policy", "noeviction"];
    [no_file, listen, memory].concat().into_iter().map(str::to_owned).collect()
}

fn connect(stream: UnixStream) -> Result<Box<dyn Client>> {
    Ok(Box::new(Redis {
        answers: BufReader::new(stream.try_clone()?),
        commands: BufWriter::with_capacity(1 << 17, stream),
    }))
}

struct Redis {
    answers: BufReader<UnixStream>,
    commands: BufWriter<UnixStream>,
}

impl Redis {
    fn send(&mut self, words: &[&[u8]]) -> Result<()> {
        write!(self.commands, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.commands, "${}\r\n", word.len())?;
            self.commands.write_all(word)?;
            self.commands.write_all(b"\r\n")?;
        }
        Ok(())
    }

    /// The next line of the answers, without its end.
    fn line(&mut self) -> Result<String> {
        self.commands.flush()?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "it closed the connection");
        ensure!(!line.starts_with('-'), "it answered {line:?}");
        Ok(line.trim_end().to_owned())
    }

    fn bulk(&mut self) -> Result<String> {
        let head = self.line()?;
        let len: usize = head
            .strip_prefix('$')
            .and_then(|len| len.parse().ok())
            .with_context(|| format!("it answered {head:?} instead of a bulk"))?;
        let mut bytes = vec![0; len + 2];
        self.answers.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok(String::from_utf8(bytes)?)
    }

    fn expect_ok(&mut self, answers: u32) -> Result<()> {
        for _ in 0..answers {
            let answer = self.line()?;
            ensure!(answer == "+OK", "it answered {answer:?} to a set");
        }
        Ok(())
    }
}

impl Client for Redis {
    fn used_bytes(&mut self) -> Result<u64> {
        self.send(&[b"INFO", b"memory"])?;
        let text = self.bulk()?;
        let used = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used = used.context("it tells no used_memory")?;
        used.parse().with_context(|| format!("used_memory is {used:?}"))
    }

    fn load(&mut self, workload: &Workload) -> Result<()> {
        let mut waiting = 0;
        workload.each(|key, value| {
            self.send(&[b"SET", key, value])?;
            waiting += 1;
            if waiting == BATCH {
                self.expect_ok(waiting)?;
                waiting = 0;
            }
            Ok(())
        })?;
        self.expect_ok(waiting)
    }

    fn items(&mut self) -> Result<u64> {
        self.send(&[b"DBSIZE"])?;
        let answer = self.line()?;
        let items = answer.strip_prefix(':').and_then(|items| items.parse().ok());
        items.with_context(|| format!("it answered {answer:?} to DBSIZE"))
    }
}
