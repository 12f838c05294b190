//! `workspace/executeCommand`: what any editor can run, with or without a plugin of ours.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower_lsp_server::jsonrpc;

use super::{Server, convert, edits, next_edit};

/// Minutes of a snooze when none are given.
const SNOOZE_MINUTES: u64 = 30;
/// A week; for longer there is a setting.
const LONGEST_SNOOZE: u64 = 7 * 24 * 60;

/// Commands that are done at once, as advertised.
pub(super) const NAMES: &[&str] = &[
    convert::ACCEPTED_COMMAND,
    "pairwright.didRejectCompletion",
    next_edit::ACCEPTED_COMMAND,
    next_edit::REJECTED_COMMAND,
    "pairwright.snooze",
    "pairwright.resume",
    "pairwright.relearn",
    "pairwright.showMetrics",
    "pairwright.showStatus",
];

/// Requests of ours that are commands too, for editors without a plugin. The argument is the
/// parameters of the request, and a place for `explainCode`.
pub(super) const REQUESTS: &[&str] = &[
    "pairwright.session.new",
    "pairwright.session.list",
    "pairwright.session.load",
    "pairwright.session.close",
    "pairwright.session.attach",
    "pairwright.chat.send",
    "pairwright.turn.cancel",
    "pairwright.explainCode",
    "pairwright.task.start",
    "pairwright.task.pause",
    "pairwright.task.resume",
    "pairwright.task.steer",
    "pairwright.task.stop",
    "pairwright.trust.get",
    "pairwright.trust.set",
    "pairwright.diff.list",
    "pairwright.diff.preview",
    "pairwright.diff.apply",
    "pairwright.diff.resolve",
    "pairwright.diff.rollback",
    "pairwright.diff.history",
];

/// Every command, as advertised.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let lists = [NAMES, edits::COMMANDS, REQUESTS];
    lists.into_iter().flatten().copied()
}

impl Server {
    /// Runs whatever command an editor names.
    pub(super) async fn run_any_command(
        &self,
        name: &str,
        mut arguments: Vec<Value>,
    ) -> jsonrpc::Result<Value> {
        let is_edit = edits::COMMANDS.contains(&name);
        if !is_edit && !REQUESTS.contains(&name) {
            return self.run_command(name, &arguments);
        }
        let first = match arguments.is_empty() {
            true => Value::Null,
            false => arguments.swap_remove(0),
        };
        if is_edit {
            return self.run_edit_command(name, first).await;
        }
        self.run_request(name, first).await
    }

    /// Runs one of [`REQUESTS`].
    async fn run_request(&self, name: &str, params: Value) -> jsonrpc::Result<Value> {
        let filled = |params: Value| if params.is_null() { json!({}) } else { params };
        match name {
            "pairwright.session.new" => write(self.session_new(read(params)?).await?),
            "pairwright.session.list" => write(self.session_list(read(params)?).await?),
            "pairwright.session.load" => write(self.session_load(read(params)?).await?),
            "pairwright.session.close" => write(self.session_close(read(params)?).await?),
            "pairwright.session.attach" => write(self.session_attach(read(params)?).await?),
            "pairwright.chat.send" => write(self.chat_send(read(params)?).await?),
            "pairwright.turn.cancel" => write(self.turn_cancel(read(params)?).await?),
            "pairwright.explainCode" => self.explain_part(read(params)?).await,
            "pairwright.task.start" => write(self.task_start(read(params)?).await?),
            "pairwright.task.pause" => write(self.task_pause(read(params)?).await?),
            "pairwright.task.resume" => write(self.task_resume(read(params)?).await?),
            "pairwright.task.steer" => write(self.task_steer(read(params)?).await?),
            "pairwright.task.stop" => write(self.task_stop(read(params)?).await?),
            "pairwright.trust.get" => write(self.trust_get(params).await?),
            "pairwright.trust.set" => write(self.trust_set(read(params)?).await?),
            "pairwright.diff.list" => write(self.diff_list(read(filled(params))?).await?),
            "pairwright.diff.preview" => write(self.diff_preview(read(params)?).await?),
            "pairwright.diff.apply" => write(self.diff_apply(read(params)?).await?),
            "pairwright.diff.resolve" => write(self.diff_resolve(read(params)?).await?),
            "pairwright.diff.rollback" => write(self.diff_rollback(read(filled(params))?).await?),
            "pairwright.diff.history" => write(self.diff_history(read(filled(params))?).await?),
            other => Err(unknown(other)),
        }
    }

    fn run_command(&self, name: &str, arguments: &[Value]) -> jsonrpc::Result<Value> {
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
            next_edit::ACCEPTED_COMMAND => {
                if let Some(id) = convert::item_id(arguments) {
                    self.completer.next_edit_was_accepted(id);
                }
            }
            next_edit::REJECTED_COMMAND => {
                if let Some(id) = convert::item_id(arguments) {
                    self.completer.next_edit_was_rejected(id);
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
                    self.show_learning(local.learning());
                }
            }
            "pairwright.showMetrics" => return Ok(json!(self.completer.metrics().report())),
            "pairwright.showStatus" => return Ok(json!(self.status())),
            other => {
                if let Some(result) = self.run_foreign_command(other, arguments) {
                    return Ok(result);
                }
                return Err(unknown(other));
            }
        }
        Ok(Value::Null)
    }
}

/// The parameters of a request.
pub(super) fn read<P: DeserializeOwned>(params: Value) -> jsonrpc::Result<P> {
    serde_json::from_value(params).map_err(|why| jsonrpc::Error::invalid_params(why.to_string()))
}

/// The answer to a request.
pub(super) fn write(answer: impl Serialize) -> jsonrpc::Result<Value> {
    serde_json::to_value(answer).map_err(|_| jsonrpc::Error::internal_error())
}

pub(super) fn unknown(command: &str) -> jsonrpc::Error {
    let shown: String = command.chars().take(64).collect();
    let known = all().collect::<Vec<_>>().join(", ");
    let message = format!("{shown} is not a command of Pairwright; there are: {known}");
    jsonrpc::Error::invalid_params(message)
}
