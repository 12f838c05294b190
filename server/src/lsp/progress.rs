//! Progress of what runs in the background, for clients that show it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tower_lsp_server::gen_lsp_types::ProgressToken;

use super::Server;
use crate::local::{Engine, State};

/// What is done sooner is not worth a line on the screen.
const WORTH_SHOWING: Duration = Duration::from_millis(500);
/// Time between two reports.
const STEP: Duration = Duration::from_millis(250);

impl Server {
    /// Shows how far `engine` is with learning, until it has learnt.
    pub(super) fn show_learning(&self, engine: Engine) {
        if !self.client_can().progress {
            return;
        }
        let client = self.client.clone();
        tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + WORTH_SHOWING, STEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            let Some(percent) = percent(engine.status().state) else {
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
            while let Some(percent) = self::percent(engine.status().state) {
                progress.report(percent).await;
                ticks.tick().await;
            }
            let learnt = engine.status();
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

fn percent(state: State) -> Option<u32> {
    match state {
        State::Learning { done, total } => {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
            Some(percent.min(100) as u32)
        }
        State::Idle => None,
    }
}
