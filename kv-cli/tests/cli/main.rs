//! The program as its users meet it: the built binary, run on stores of its own.
//!
//! Every test makes stores with unique names and removes them, also when it fails.

mod accounting;
mod actor;
mod backings;
mod bench;
mod damaged;
mod demo;
mod doctor;
mod every_backing;
mod harness;
mod kernel;
mod lifecycle;
mod loads;
mod names;
mod namespaces;
mod reboot;
mod rewrites;
mod semaphores;
mod squatters;
mod stopped;
mod stores;
mod stuck;
mod terminal;
mod transfer;
mod usage;
mod values;
