//! The server as its users and supervisors meet it: the built binary, on stores of its own.

mod harness;
mod lock;
mod making;
mod settings;
mod supervision;
mod upkeep;
