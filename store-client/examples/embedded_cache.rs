//! An embedded cache: one call, no server, no name. Its threads share one handle.
//!
//! `cargo run --release -p store-client --example embedded_cache`

use std::time::Duration;

use store_client::{CreateOptions, PutOptions, Writer};

/// What would be expensive: a fragment of a page, rendered.
fn render(page: u32) -> String {
    format!("<h1>Page {page}</h1>").repeat(20)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Writer::private(&CreateOptions::new(64 << 20))?;
    let keep = PutOptions::new().ttl(Duration::from_secs(60));
    let rendered = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u32)
            .map(|worker| {
                let (cache, keep) = (&cache, &keep);
                scope.spawn(move || -> Result<u32, store_client::WriteError> {
                    let mut rendered = 0;
                    for turn in 0..10_000_u32 {
                        let page = turn.wrapping_mul(2_654_435_761 + worker) % 500;
                        let key = format!("page:{page}");
                        if cache.get(key.as_bytes())?.is_none() {
                            rendered += 1;
                            cache.put_with(key.as_bytes(), render(page).as_bytes(), keep)?;
                        }
                    }
                    Ok(rendered)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker")).sum::<Result<u32, _>>()
    })?;
    println!(
        "40000 requests by 4 threads, {rendered} pages rendered, {} in the cache",
        cache.len()
    );
    assert!(rendered < 4 * 500 + 1);
    Ok(())
}
