//! Process-shared synchronisation: the guard semaphore and its owner word.

mod guard;
mod owner;
mod semaphore;

pub(crate) use guard::{Acquired, Guard, Refused, WaitLimit};
pub(crate) use owner::Owner;
