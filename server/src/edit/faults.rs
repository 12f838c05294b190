//! Places where the disk can fail or the machine stop, for tests to make it so.
//!
//! Outside tests [`at`] is nothing: no variable, flag or setting can make the program fail.

use std::io;

/// What is about to be done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The journal says what is about to happen.
    Begin,
    MakeDirectory,
    CreateTemp,
    WriteTemp,
    SyncTemp,
    Swap,
    PlaceNew,
    TakeAway,
    WriteInPlace,
    SyncDirectory,
    /// The journal says how it ended.
    End,
    Unlink,
}

#[cfg(not(test))]
#[inline]
pub fn at(_: Step) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use hook::{at, set};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    use super::{Step, io};

    type Hook = Box<dyn FnMut(Step) -> io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Calls what the test of this thread has set, if anything.
    pub fn at(step: Step) -> io::Result<()> {
        HOOK.with_borrow_mut(|hook| hook.as_mut().map_or(Ok(()), |hook| hook(step)))
    }

    /// Sets what happens at each step on this thread.
    pub fn set(hook: Option<Hook>) {
        HOOK.set(hook);
    }
}
