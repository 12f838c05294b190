//! A service of sandboxes as a program of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::world::World;

/// Killed on the spot when it is dropped.
pub(crate) struct Sandboxd {
    process: Child,
    /// Where it listens: a URL or a path.
    pub(crate) address: String,
}

impl Sandboxd {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(world: &World, arguments: &[&str]) -> Self {
        let mut command = world.command(&[&["sandboxd"], arguments].concat());
        let mut service = Self {
            process: command.stdout(Stdio::piped()).spawn().unwrap(),
            address: String::new(),
        };
        let mut line = String::new();
        let mut lines = BufReader::new(service.process.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        address.expect(&line).clone_into(&mut service.address);
        service
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns when it is dead.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Sandboxd {
    fn drop(&mut self) {
        self.kill();
    }
}
