//! Trust in folders: asked once, when something in one would take effect.
//!
//! Holds: one question at a time, and one about a folder's settings in the life of a server. A task
//! that would run what a folder holds waits for the answer to its own; nothing else waits. No answer
//! is no. The words are kept by `config::trust`, outside of every folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::Server;
use super::edits::failed;
use crate::agent::Mode;
use crate::config::sources::WORKSPACE_FILE;
use crate::config::trust::{Standing, Word};
use crate::session::document::{path_of, uri_of};
use crate::shown::printable;

const TRUST: &str = "Trust";
const REFUSE: &str = "Don't trust";

/// What was asked already.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The client has told its settings, which may trust or exclude folders.
    may_ask: AtomicBool,
    one_at_a_time: tokio::sync::Mutex<()>,
    of_settings: Mutex<HashSet<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TrustParams {
    /// The folder's address; the first one that is open when not given.
    folder: Option<String>,
    trusted: bool,
}

/// A folder that is open, and how it stands.
#[derive(Debug, Serialize)]
pub(super) struct FolderTrust {
    folder: String,
    standing: Standing,
}

impl Server {
    pub(super) async fn trust_get(&self, _: Value) -> jsonrpc::Result<Vec<FolderTrust>> {
        self.on_disk(|server| {
            let roots = server.session.snapshot().roots;
            Ok(roots.iter().map(|root| server.standing(root)).collect())
        })
        .await
    }

    pub(super) async fn trust_set(&self, params: TrustParams) -> jsonrpc::Result<FolderTrust> {
        let roots = self.session.snapshot().roots.to_vec();
        let root = match params.folder {
            None => self.first_root()?,
            Some(uri) => path_of(&uri)
                .filter(|path| roots.contains(path))
                .ok_or_else(|| jsonrpc::Error::invalid_params("no such folder is open"))?,
        };
        self.on_disk(move |server| {
            let kept = match params.trusted {
                true => server.settings.say_of(&root, Word::Trusted),
                false => server.settings.revoke(&root),
            };
            kept.map_err(|why| failed(&why.to_string()))?;
            Ok(server.standing(&root))
        })
        .await
    }

    fn standing(&self, root: &Path) -> FolderTrust {
        FolderTrust {
            folder: uri_of(root),
            standing: self.settings.get().trust.of(root),
        }
    }

    /// Asks for trust in a folder whose files a task in this mode would run, unless that is known.
    pub(super) async fn ask_for_task(&self, root: &Path, mode: Mode) {
        if !mode.changes() || !self.is_worth_asking(root).await {
            return;
        }
        let _asking = self.trust.one_at_a_time.lock().await;
        // The question before may have been the same.
        if !self.is_worth_asking(root).await {
            return;
        }
        let question = format!(
            "Do you trust {}? A task runs what the folder holds, its tests for example, in a \
             sandbox.",
            shown(root)
        );
        self.ask_to_trust(root, question).await;
    }

    /// Whether nobody decided about a folder. What was said elsewhere, in a terminal for example,
    /// counts.
    async fn is_worth_asking(&self, root: &Path) -> bool {
        let (server, root) = (self.clone(), root.to_owned());
        let standing = tokio::task::spawn_blocking(move || {
            server.settings.reload();
            server.settings.get().trust.of(&root)
        });
        matches!(standing.await, Ok(Standing::Unknown | Standing::Refused))
    }

    /// From now on, folders whose settings are not read are asked about.
    pub(super) fn may_ask_for_settings(&self) {
        self.trust.may_ask.store(true, Ordering::Relaxed);
        self.ask_for_settings_files();
    }

    /// Asks about folders whose settings are not read for lack of a word.
    pub(super) fn ask_for_settings_files(&self) {
        if !self.trust.may_ask.load(Ordering::Relaxed) {
            return;
        }
        for root in &self.settings.get().unread {
            let asked = &self.trust.of_settings;
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if !asked.insert(root.clone()) {
                continue;
            }
            let (server, root) = (self.clone(), root.clone());
            tokio::spawn(async move {
                let _asking = server.trust.one_at_a_time.lock().await;
                if !server.settings.get().unread.contains(&root) {
                    return;
                }
                let question = format!(
                    "Do you trust {}? Its settings for Pairwright ({WORKSPACE_FILE}) are not read \
                     and tasks change and run nothing there until you do.",
                    shown(&root)
                );
                server.ask_to_trust(&root, question).await;
            });
        }
    }

    async fn ask_to_trust(&self, root: &Path, question: String) {
        let titles = [TRUST, REFUSE].map(|title| lsp::MessageActionItem {
            title: title.to_owned(),
            ..lsp::MessageActionItem::default()
        });
        let asked = self.client.show_message_request(
            lsp::MessageType::Warning,
            question,
            Some(titles.into()),
        );
        let word = match asked.await.ok().flatten().map(|chosen| chosen.title) {
            Some(title) if title == TRUST => Word::Trusted,
            Some(title) if title == REFUSE => Word::Refused,
            Some(_) | None => return,
        };
        let root = root.to_owned();
        let kept = self.on_disk(move |server| {
            let kept = server.settings.say_of(&root, word);
            kept.map_err(|why| failed(&why.to_string()))
        });
        if let Err(why) = kept.await {
            let message = why.message.into_owned();
            self.client
                .show_message(lsp::MessageType::Error, message)
                .await;
        }
    }
}

fn shown(root: &Path) -> String {
    printable(&root.display().to_string())
}
