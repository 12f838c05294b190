//! What was refused, the last of it, for whoever wants to tell.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::protocol::{Denial, DenialOp, DenialReason};

/// Denials kept; older ones are forgotten, which their numbers show.
const KEPT: usize = 256;
/// Characters of a target that was never checked.
const SHOWN: usize = 260;

#[derive(Debug)]
pub(super) struct Denials {
    kept: Mutex<VecDeque<Denial>>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

impl Default for Denials {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Denials {
    pub(super) fn push(
        &self,
        op: DenialOp,
        target: &str,
        reason: DenialReason,
        allowed_by: Option<String>,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = *self.last.borrow() + 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let target = target.chars().filter(char::is_ascii_graphic);
        kept.push_back(Denial {
            seq,
            op,
            target: target.take(SHOWN).collect(),
            reason,
            allowed_by,
        });
        self.last.send_replace(seq);
    }

    /// Those with numbers above `after`; waits for one, but no longer than `patience`.
    pub(super) async fn since(&self, after: u64, patience: Duration) -> Vec<Denial> {
        let mut last = self.last.subscribe();
        // Nobody else drops the sender, and time being over is an answer.
        let _ = tokio::time::timeout(patience, last.wait_for(|last| *last > after)).await;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|d| d.seq > after).cloned().collect()
    }
}
