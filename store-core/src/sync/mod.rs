//! Process-shared synchronisation: the guard semaphore and its owner word.

mod guard;
mod owner;
mod semaphore;
mod turn;

pub(crate) use guard::{Acquired, Guard, Refused, WaitLimit};
pub(crate) use owner::Owner;
pub(crate) use turn::{Turn, Wake};
