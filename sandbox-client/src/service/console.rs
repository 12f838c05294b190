//! The last of what the program around a sandbox said (QEMU with the guest's kernel, gVisor), for
//! when no sandbox answers.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// What is kept.
const BYTES: usize = 4 << 10;
const LINES: usize = 3;
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(in crate::service) struct Console {
    kept: Arc<Mutex<Vec<u8>>>,
    over: oneshot::Receiver<()>,
}

impl Console {
    /// Reads until the program ends, so that nothing waits for room to speak.
    pub(in crate::service) fn follow(mut from: UnixStream) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (ended, over) = oneshot::channel();
        let console = Self {
            kept: Arc::clone(&kept),
            over,
        };
        std::thread::spawn(move || {
            let _ended = ended;
            let mut chunk = [0; 1 << 10];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..n]);
                let over = kept.len().saturating_sub(BYTES);
                kept.drain(..over);
            }
        });
        console
    }

    /// Waits until the program and process 1 around it have ended, but no longer than `patience`.
    pub(in crate::service) async fn over(&mut self, patience: Duration) {
        let _ = tokio::time::timeout(patience, &mut self.over).await;
    }

    /// Its last lines, to end a message. Waits for them where the program is ending.
    pub(in crate::service) async fn said(&mut self) -> String {
        self.over(LAST_WORDS).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept).into_owned();
        let lines = text.lines().rev().map(|line| {
            let plain: String = line.chars().filter(|c| !c.is_control()).collect();
            plain.trim().to_owned()
        });
        let lines = lines.filter(|line| !line.is_empty()).take(LINES);
        let mut lines: Vec<String> = lines.collect();
        lines.reverse();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; it said: {}", lines.join(" | ")),
        }
    }
}
