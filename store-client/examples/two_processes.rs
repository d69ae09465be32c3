//! One process writes prices, another reads them without a system call or a lock.
//!
//! `cargo run --release -p store-client --example two_processes`

use std::process::Command;
use std::time::{Duration, Instant};

use store_client::{CreateOptions, Reader, Spec, create, destroy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        None => write(),
        Some(spec) => read(&spec.parse()?),
    }
}

fn write() -> Result<(), Box<dyn std::error::Error>> {
    let spec: Spec = format!("posix:prices-{}", std::process::id()).parse()?;
    let writer = create(&spec, &CreateOptions::new(16 << 20))?;
    writer.put(b"EURUSD", b"1.0000")?;
    let mut reader = Command::new(std::env::current_exe()?).arg(spec.to_string()).spawn()?;
    let mut written = 0_u64;
    let status = loop {
        let price = format!("1.{:04}", written % 10_000);
        writer.put(b"EURUSD", price.as_bytes())?;
        written += 1;
        if let Some(status) = reader.try_wait()? {
            break status;
        }
    };
    println!("the writer wrote {written} prices meanwhile");
    destroy(&spec)?;
    assert!(status.success());
    Ok(())
}

fn read(spec: &Spec) -> Result<(), Box<dyn std::error::Error>> {
    let reader = Reader::attach(spec)?;
    let (mut price, mut lookups, mut changes) = ([0; 16], 0_u64, 0_u64);
    let mut last = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        for _ in 0..1000 {
            let len = reader.get_into(b"EURUSD", &mut price)?.ok_or("the price is always there")?;
            lookups += 1;
            if price[..len] != last[..] {
                changes += 1;
                last = price[..len].to_vec();
            }
        }
    }
    println!("the reader made {lookups} lookups in 300 ms and saw {changes} changes");
    assert!(changes > 1);
    Ok(())
}
