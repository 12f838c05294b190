//! QEMU's own protocol: what stops a machine, writes it down and lets it go on.
//!
//! Holds: QEMU is believed in nothing but whether it did what it was told; what it says is read a
//! line at a time, bounded in length and number. Source: `docs/interop/qmp-spec.rst` of QEMU.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};

/// No line is longer.
const LINE: u64 = 64 << 10;
/// Lines that are looked at for one answer.
const LINES: usize = 1_000;

/// A connection to a machine's monitor. Every call waits for QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    lines: BufReader<UnixStream>,
    is_open: bool,
}

/// Every kind of line. What is not looked at is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(rename = "return")]
    done: Option<Value>,
    error: Option<Failure>,
    event: Option<String>,
    data: Option<Data>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failure {
    desc: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    status: String,
}

impl Qmp {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            lines: BufReader::new(socket),
            is_open: false,
        }
    }

    /// Agrees on the protocol, and on copies of memory that is in a file, unless that was done.
    ///
    /// # Errors
    /// As for every call: when QEMU says that it cannot, says nothing for `patience`, or ends.
    pub(super) fn open(&mut self, patience: Duration) -> io::Result<()> {
        if self.is_open {
            return Ok(());
        }
        let socket = self.lines.get_ref();
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        self.execute("qmp_capabilities", Value::Null)?;
        let capabilities =
            ["x-ignore-shared", "events"].map(|name| json!({ "capability": name, "state": true }));
        let wanted = json!({ "capabilities": capabilities });
        self.execute("migrate-set-capabilities", wanted)?;
        self.is_open = true;
        Ok(())
    }

    /// Stops the machine and writes all but its memory to `state`.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn write_down(&mut self, state: BorrowedFd<'_>) -> io::Result<()> {
        const NAME: &str = "state";
        self.execute("stop", Value::Null)?;
        let get = json!({ "execute": "getfd", "arguments": { "fdname": NAME } });
        self.send(&get, &[state])?;
        self.answer()?;
        self.execute("migrate", json!({ "uri": format!("fd:{NAME}") }))?;
        self.await_migration()
    }

    /// Reads what was written down from the open file that QEMU has by this number.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn read_back(&mut self, state: i32) -> io::Result<()> {
        let from = json!({ "uri": format!("fd:{state}") });
        self.execute("migrate-incoming", from)?;
        self.await_migration()
    }

    /// Lets the machine go on.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        self.execute("cont", Value::Null)
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub(super) fn quit(&mut self) -> io::Result<()> {
        self.execute("quit", Value::Null)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> io::Result<()> {
        let mut message = json!({ "execute": command });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        self.send(&message, &[])?;
        self.answer()
    }

    fn send(&mut self, message: &Value, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut socket = self.lines.get_ref();
        if files.is_empty() {
            return writeln!(socket, "{message}");
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let line = format!("{message}\n");
        let bytes = [IoSlice::new(line.as_bytes())];
        let sent = sendmsg(socket, &bytes, &mut ancillary, SendFlags::empty())?;
        socket.write_all(line.as_bytes().get(sent..).unwrap_or_default())
    }

    /// Waits for the answer to what was sent last.
    fn answer(&mut self) -> io::Result<()> {
        self.find(|line| line.done.is_some())
    }

    fn await_migration(&mut self) -> io::Result<()> {
        let mut failed = false;
        self.find(|line| {
            let status = line.data.as_ref().map(|data| data.status.as_str());
            let is_about = line.event.as_deref() == Some("MIGRATION");
            failed = is_about && matches!(status, Some("failed" | "cancelled"));
            failed || is_about && status == Some("completed")
        })?;
        match failed {
            true => Err(io::Error::other("it could not be read or written")),
            false => Ok(()),
        }
    }

    fn find(&mut self, mut is_it: impl FnMut(&Line) -> bool) -> io::Result<()> {
        for _ in 0..LINES {
            let mut line = Vec::new();
            self.lines
                .by_ref()
                .take(LINE)
                .read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line: Line = serde_json::from_slice(&line)?;
            if let Some(error) = line.error {
                let words: String = error.desc.chars().filter(|c| !c.is_control()).collect();
                return Err(io::Error::other(words));
            }
            if is_it(&line) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}
