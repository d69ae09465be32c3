//! What the programs of `store-benches` share.
//!
//! Each program (`src/bin/NAME`) makes a store of its own, shows one property of it over real
//! processes, and ends with one line of JSON whose `pass` says whether the property held:
//! [`scratch`] makes and removes the store, [`worker`] runs the other processes, [`records`] makes
//! keys, and values that say of themselves whether they are whole ([`appended`]: longer and longer
//! ones), [`tally`] counts what was seen,
//! [`stats`] condenses timings, [`progress`] shows how far a long run is, [`report`] writes the
//! last line, [`servers`] runs Redis and memcached beside the store. Programs that kill thousands of processes fork them ([`forked`]), share memory with
//! them ([`shared`]) and decide at which store to the segment they die ([`mortal`]).

pub mod appended;
pub mod forked;
pub mod mortal;
pub mod progress;
pub mod records;
pub mod report;
pub mod scratch;
pub mod servers;
pub mod shared;
pub mod stats;
pub mod tally;
pub mod worker;
