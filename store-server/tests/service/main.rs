//! The server as its users and supervisors meet it: the built binary, on stores of its own.

mod harness;
mod making;
mod one_server;
mod settings;
mod supervision;
mod upkeep;
