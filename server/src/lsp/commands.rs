//! `workspace/executeCommand`: what any editor can run, with or without a plugin of ours.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_lsp_server::jsonrpc;

use super::{Server, convert};

/// Minutes of a snooze when none are given.
const SNOOZE_MINUTES: u64 = 30;
/// A week; for longer there is a setting.
const LONGEST_SNOOZE: u64 = 7 * 24 * 60;

/// Every command, as advertised, but for those of hunks (`edits::COMMANDS`).
pub(super) const NAMES: &[&str] = &[
    convert::ACCEPTED_COMMAND,
    "pairwright.didRejectCompletion",
    "pairwright.snooze",
    "pairwright.resume",
    "pairwright.relearn",
    "pairwright.showMetrics",
    "pairwright.showStatus",
];

impl Server {
    pub(super) fn run_command(&self, name: &str, arguments: &[Value]) -> jsonrpc::Result<Value> {
        match name {
            convert::ACCEPTED_COMMAND => {
                if let Some(id) = convert::item_id(arguments) {
                    self.completer.was_accepted(id);
                }
            }
            "pairwright.didRejectCompletion" => {
                if let Some(id) = convert::item_id(arguments) {
                    self.completer.was_rejected(id);
                }
            }
            "pairwright.snooze" => {
                let minutes = arguments
                    .first()
                    .and_then(Value::as_u64)
                    .unwrap_or(SNOOZE_MINUTES);
                let until = Instant::now() + Duration::from_secs(minutes.min(LONGEST_SNOOZE) * 60);
                self.completer.snooze(Some(until));
                self.status_may_have_changed();
                let server = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(until.into()).await;
                    server.status_may_have_changed();
                });
            }
            "pairwright.resume" => {
                self.completer.snooze(None);
                self.status_may_have_changed();
            }
            "pairwright.relearn" => {
                if let Some(local) = &self.completer.engines().local {
                    local.relearn();
                    self.show_learning(local.clone());
                }
            }
            "pairwright.showMetrics" => return Ok(json!(self.completer.metrics().report())),
            "pairwright.showStatus" => return Ok(json!(self.status())),
            other => {
                if let Some(result) = self.run_foreign_command(other, arguments) {
                    return Ok(result);
                }
                let known = NAMES.join(", ");
                let message = format!("{other} is not a command of Pairwright; there are: {known}");
                return Err(jsonrpc::Error::invalid_params(message));
            }
        }
        Ok(Value::Null)
    }
}
