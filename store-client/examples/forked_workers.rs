//! A web shop: one process makes a store in shared anonymous memory and forks its workers, before
//! it has any thread. The store has no name, and is gone with the last of them.
//!
//! `cargo run --release -p store-client --example forked_workers [futex|sysv]`

use std::process::exit;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use store_client::{CreateOptions, Writer};

type Error = Box<dyn std::error::Error>;

const PRODUCTS: u32 = 1_000;
const REQUESTS: u32 = 20_000;

#[derive(Debug, Clone, Copy)]
enum Role {
    /// Shows pages, and sells.
    Seller,
    /// Sets new prices.
    Pricing,
    /// Shows pages, and can't write.
    Visitor,
}

fn key(product: u32) -> String {
    format!("product:{}", product % PRODUCTS)
}

/// Names its price twice: a page of two prices would be torn.
fn page(product: u32, price: u32) -> String {
    let text = "warm, dry and well made; ".repeat(20);
    format!("{price} EUR for {}: {text}now {price} EUR", key(product))
}

fn is_whole(page: &[u8]) -> bool {
    let page = String::from_utf8_lossy(page);
    page.split(' ').next() == page.split(' ').nth_back(1)
}

fn work(role: Role, store: Writer) -> Result<(), Error> {
    match role {
        Role::Seller => {
            for request in 0..REQUESTS {
                let page = store.get(key(request * 7).as_bytes())?.ok_or("no page")?;
                assert!(is_whole(&page));
                store.incr(b"sold", 1)?;
            }
        }
        Role::Pricing => {
            for price in 0..REQUESTS {
                store.put(key(price).as_bytes(), page(price, price).as_bytes())?;
            }
        }
        Role::Visitor => {
            let store = store.into_protected_reader()?;
            for request in 0..REQUESTS {
                let page = store.get(key(request * 13).as_bytes())?.ok_or("no page")?;
                assert!(is_whole(&page));
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let guard = std::env::args().nth(1).as_deref().unwrap_or("futex").parse()?;
    let store = Writer::anonymous(&CreateOptions::new(32 << 20).guard(guard))?;
    for product in 0..PRODUCTS {
        store.put(key(product).as_bytes(), page(product, 0).as_bytes())?;
    }
    let mut workers = Vec::new();
    for role in [Role::Seller, Role::Seller, Role::Pricing, Role::Visitor] {
        #[expect(unsafe_code, reason = "anonymous memory is passed on by fork only")]
        // SAFETY: this process has no other thread, so its child may do whatever it might.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => workers.push(child),
            ForkResult::Child => match work(role, store) {
                Ok(()) => exit(0),
                Err(error) => {
                    eprintln!("{role:?}: {error}");
                    exit(1)
                }
            },
        }
    }
    for worker in workers {
        assert_eq!(waitpid(worker, None)?, WaitStatus::Exited(worker, 0));
    }
    let sold = store.get(b"sold")?.ok_or("nothing was sold")?;
    let sold = String::from_utf8_lossy(&sold);
    println!("2 workers sold {sold} products while one set {REQUESTS} prices");
    assert_eq!(sold, (2 * REQUESTS).to_string());
    assert_eq!(store.info()?.clients.len(), 1, "the workers are gone");
    assert!(store.check(|_, _| {}).violations.is_empty());
    Ok(())
}
