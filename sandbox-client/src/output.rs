//! Output with a cap: the first and the last of it, and how much was between.

use std::collections::VecDeque;

/// How much of one output is kept: this much of its beginning, and as much of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap(pub usize);

/// An output as far as it is kept. Memory is at most twice the cap, however long the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped {
    cap: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Capped {
    pub fn new(Cap(cap): Cap) -> Self {
        Self {
            cap,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
        }
    }

    /// Adds what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.cap - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.cap)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.cap);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// How long the output was.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How much of its middle is not kept.
    pub fn elided(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// All of it, if all of it is kept.
    pub(crate) fn whole(&self) -> Option<Vec<u8>> {
        let all = self.head.iter().chain(&self.tail).copied();
        (self.elided() == 0).then(|| all.collect())
    }

    /// The text, with a line that says what was left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.elided() == 0 {
            return String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned();
        }
        format!(
            "{}\n[{} bytes left out]\n{}",
            String::from_utf8_lossy(&self.head),
            self.elided(),
            String::from_utf8_lossy(&tail)
        )
    }
}
