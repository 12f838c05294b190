//! The requests of before: `getCompletions` and what belongs to it.
//!
//! Shapes and names follow what copilot.vim and copilot.lua send and read.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_lsp_server::gen_lsp_types::{
    LspNotificationMethod, MessageDirection, Notification, Position, Range, Uri,
};
use tower_lsp_server::jsonrpc::Result;

use super::super::dispatch::off_the_reader;
use super::super::ext::{Status, StatusKind, VersionedDocument};
use super::super::{Server, convert};
use crate::complete::{Ask, Item, Trigger};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Version {
    version: &'static str,
    build_type: &'static str,
    runtime_version: &'static str,
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct CompletionsParams {
    doc: Doc,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct PanelParams {
    doc: Doc,
    panel_id: String,
}

/// The place asked about. Clients add much more, which the synchronised document tells better.
#[derive(Debug, Deserialize)]
struct Doc {
    uri: Uri,
    position: Position,
    version: Option<i32>,
}

#[derive(Debug, Default, Serialize)]
pub(in super::super) struct Completions {
    completions: Vec<Completion>,
}

/// A suggestion: `text` replaces `range`, of which `display_text` is new.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Completion {
    uuid: String,
    text: String,
    display_text: String,
    position: Position,
    range: Range,
    doc_version: i32,
}

impl Completion {
    fn new(ask: &Ask, item: &Item, position: Position) -> Self {
        Self {
            uuid: item.id.to_string(),
            text: item.text.clone(),
            display_text: item.text[item.typed..].to_owned(),
            position,
            range: convert::range(&ask.document, &item.range, ask.snapshot.encoding),
            doc_version: ask.document.version,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct ShownParams {
    uuid: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct AcceptedParams {
    uuid: String,
    /// UTF-16 units from the start of the item's text, when that much was taken; by some clients
    /// all of it.
    accepted_length: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(in super::super) struct RejectedParams {
    uuids: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct PanelAnswer {
    solution_count_target: usize,
}

/// One suggestion for a panel.
enum PanelSolution {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Solution {
    panel_id: String,
    solution_id: String,
    completion_text: String,
    display_text: String,
    range: Range,
    /// Probability, where the source knows.
    score: f32,
}

impl Notification for PanelSolution {
    type Params = Solution;
    const METHOD: LspNotificationMethod<'static> = LspNotificationMethod::Custom("PanelSolution");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

/// The end of the suggestions for a panel.
enum PanelSolutionsDone {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SolutionsDone {
    panel_id: String,
    status: Done,
}

#[derive(Debug, Serialize, Deserialize)]
enum Done {
    #[serde(rename = "OK")]
    Ok,
}

impl Notification for PanelSolutionsDone {
    type Params = SolutionsDone;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("PanelSolutionsDone");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

/// The state of the server in the words of before.
enum StatusNotification {}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldStatus {
    status: OldStatusKind,
    #[serde(flatten)]
    status_now: Status,
}

#[derive(Debug, Serialize, Deserialize)]
enum OldStatusKind {
    Normal,
    InProgress,
    Warning,
    Inactive,
}

impl Notification for StatusNotification {
    type Params = OldStatus;
    const METHOD: LspNotificationMethod<'static> =
        LspNotificationMethod::Custom("statusNotification");
    const MESSAGE_DIRECTION: MessageDirection = MessageDirection::ServerToClient;
}

impl From<Status> for OldStatus {
    fn from(now: Status) -> Self {
        let status = match now.kind {
            StatusKind::Normal if now.busy => OldStatusKind::InProgress,
            StatusKind::Normal => OldStatusKind::Normal,
            StatusKind::Warning | StatusKind::Error => OldStatusKind::Warning,
            StatusKind::Inactive => OldStatusKind::Inactive,
        };
        Self {
            status,
            status_now: now,
        }
    }
}

impl Server {
    pub(in super::super) async fn get_version(&self, _: Value) -> Result<Version> {
        Ok(Version {
            version: env!("CARGO_PKG_VERSION"),
            build_type: "prod",
            runtime_version: concat!("pairwright/", env!("CARGO_PKG_VERSION")),
        })
    }

    /// Takes note that the client speaks as before: from here on it is told the state in the old
    /// words too.
    pub(in super::super) async fn set_editor_info(&self, _: Value) -> Result<&'static str> {
        if self.speaks_legacy.set(()).is_ok() {
            // It has not heard the last one.
            self.told.send_modify(|_| {});
        }
        Ok("OK")
    }

    pub(in super::super) async fn send_old_status(&self, status: Status) {
        self.client
            .send_notification::<StatusNotification>(status.into())
            .await;
    }

    pub(in super::super) async fn get_completions(
        &self,
        params: CompletionsParams,
    ) -> Result<Completions> {
        self.completions(params.doc, Trigger::Automatic).await
    }

    pub(in super::super) async fn get_completions_cycling(
        &self,
        params: CompletionsParams,
    ) -> Result<Completions> {
        self.completions(params.doc, Trigger::Invoked).await
    }

    async fn completions(&self, doc: Doc, trigger: Trigger) -> Result<Completions> {
        let (ask, items) = self.suggestions(&doc, trigger).await?;
        let completions = items
            .iter()
            .zip(ask.iter().cycle())
            .map(|(item, ask)| Completion::new(ask, item, doc.position))
            .collect();
        Ok(Completions { completions })
    }

    /// Answers how many suggestions there are; they are sent one by one beside the answer.
    pub(in super::super) async fn get_panel_completions(
        &self,
        params: PanelParams,
    ) -> Result<PanelAnswer> {
        let PanelParams { doc, panel_id } = params;
        let (ask, items) = self.suggestions(&doc, Trigger::Invoked).await?;
        let n_items = items.len();
        let client = self.client.clone();
        tokio::spawn(async move {
            for (item, ask) in items.iter().zip(ask.iter().cycle()) {
                let completion = Completion::new(ask, item, doc.position);
                let solution = Solution {
                    panel_id: panel_id.clone(),
                    solution_id: completion.uuid,
                    completion_text: completion.text,
                    display_text: completion.display_text,
                    range: completion.range,
                    score: item.confidence.unwrap_or_default(),
                };
                client.send_notification::<PanelSolution>(solution).await;
            }
            let done = SolutionsDone {
                panel_id,
                status: Done::Ok,
            };
            client.send_notification::<PanelSolutionsDone>(done).await;
        });
        Ok(PanelAnswer {
            solution_count_target: n_items,
        })
    }

    async fn suggestions(&self, doc: &Doc, trigger: Trigger) -> Result<(Option<Ask>, Vec<Item>)> {
        let document = VersionedDocument {
            uri: doc.uri.clone(),
            version: doc.version,
        };
        let Some(ask) = self.ask(&document, doc.position, trigger, None)? else {
            return Ok((None, Vec::new()));
        };
        let request = self.completer.begin(ask.clone());
        off_the_reader().await;
        let items = request.answer().await.unwrap_or_default();
        Ok((Some(ask), items))
    }

    pub(in super::super) async fn notify_shown(&self, params: ShownParams) -> Result<&'static str> {
        if let Ok(id) = params.uuid.parse() {
            self.completer.was_shown(id);
        }
        Ok("OK")
    }

    pub(in super::super) async fn notify_accepted(
        &self,
        params: AcceptedParams,
    ) -> Result<&'static str> {
        if let Ok(id) = params.uuid.parse() {
            match params.accepted_length {
                Some(length) => self.completer.was_partially_accepted(id, length),
                None => self.completer.was_accepted(id),
            }
        }
        Ok("OK")
    }

    pub(in super::super) async fn notify_rejected(
        &self,
        params: RejectedParams,
    ) -> Result<&'static str> {
        for id in params.uuids.iter().filter_map(|id| id.parse().ok()) {
            self.completer.was_rejected(id);
        }
        Ok("OK")
    }
}
