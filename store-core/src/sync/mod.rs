//! Process-shared synchronisation: the guard semaphore and its owner word.

mod guard;
mod owner;

pub(crate) use guard::{Acquired, Guard, WaitLimit};
pub(crate) use owner::Owner;
