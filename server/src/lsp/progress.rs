//! Progress of what runs in the background, for clients that show it.

use std::path::PathBuf;
use std::time::Duration;

use indexer::{Phase, Status};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tower_lsp_server::gen_lsp_types::ProgressToken;

use super::Server;
use crate::local::{Learning, State};
use crate::shown::count;

/// What is done sooner is not worth a line on the screen.
const WORTH_SHOWING: Duration = Duration::from_millis(500);
/// Time between two reports.
const STEP: Duration = Duration::from_millis(250);
/// Fewer files than this are looked at before anybody would read a line about it.
const MANY_FILES: usize = 300;

impl Server {
    /// Shows how far an engine is with learning, until it has learnt or is gone.
    pub(super) fn show_learning(&self, learning: Learning) {
        if !self.client_can().progress {
            return;
        }
        let client = self.client.clone();
        tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + WORTH_SHOWING, STEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            let Some(percent) = percent(learning.status().state) else {
                return;
            };
            let token = ProgressToken::from("pairwright/learning".to_owned());
            if let Err(why) = client.create_work_done_progress(token.clone()).await {
                tracing::debug!(%why, "the client does not show progress");
                return;
            }
            let progress = client
                .progress(token, "Pairwright learns this workspace")
                .with_percentage(percent)
                .begin()
                .await;
            while let Some(percent) = self::percent(learning.status().state) {
                progress.report(percent).await;
                ticks.tick().await;
            }
            let learnt = learning.status();
            let (files, mb) = (learnt.files, learnt.bytes / 1_000_000);
            let capped = if learnt.is_capped {
                "; more did not fit into `local.memoryMb`"
            } else {
                ""
            };
            let message = format!("{files} files, {mb} MB{capped}");
            progress.finish_with_message(message).await;
        });
    }
}

impl Server {
    /// Shows how far the index of `root` is, whenever there is much to look at.
    pub(super) async fn show_indexing(self, root: PathBuf, mut status: watch::Receiver<Status>) {
        if !self.client_can().progress {
            return;
        }
        let name = root
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_much = |status: &Status| status.pending >= MANY_FILES;
        // Ends when the index does, with its sender.
        while let Ok(started) = status.wait_for(is_much).await.map(|status| status.clone()) {
            let token = ProgressToken::from(format!("pairwright/indexing/{name}"));
            if let Err(why) = self.client.create_work_done_progress(token.clone()).await {
                tracing::debug!(%why, "the client does not show progress");
                return;
            }
            let most = started.pending;
            let progress = self
                .client
                .progress(token, format!("Pairwright indexes {name}"))
                .with_percentage(0)
                .begin()
                .await;
            let mut ticks = interval_at(Instant::now() + STEP, STEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (pending, is_ready) = {
                    let status = status.borrow();
                    (status.pending, status.phase == Phase::Ready)
                };
                if is_ready || status.has_changed().is_err() {
                    break;
                }
                let done = most.saturating_sub(pending) * 100 / most.max(1);
                progress.report(done.min(100) as u32).await;
            }
            let n_files = status.borrow().n_indexed;
            progress.finish_with_message(count(n_files, "file")).await;
        }
    }
}

fn percent(state: State) -> Option<u32> {
    match state {
        State::Learning { done, total } => {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
            Some(percent.min(100) as u32)
        }
        State::Idle => None,
    }
}
