//! What clients of another completion server say, so that they work with this one unmodified.
//!
//! Two dialects: that server's documented extras to the protocol (panels, account, accept
//! commands) here and in `panel`, and in `legacy` the requests it spoke before ghost text was part
//! of the protocol. Both lead to the same suggestions as `textDocument/inlineCompletion`.
//!
//! Holds: there is no account here, so whoever asks for one is told that all is well. The foreign
//! commands are obeyed but not advertised: an editor in which the other server's own extension is
//! installed would register them twice.
//! Not here: what became part of the common protocol (`didFocus`, `didShowCompletion` and
//! `didPartiallyAcceptCompletion` are in `sync`), next edits (`next_edit`).

mod legacy;
mod panel;

use serde::Serialize;
use serde_json::Value;
use tower_lsp_server::LspServiceBuilder;
use tower_lsp_server::jsonrpc::Result;

use super::{Server, convert};

/// Who is signed in where nobody has to.
const USER: &str = "local";

/// Adds the methods of both dialects.
pub(super) fn register(service: LspServiceBuilder<Server>) -> LspServiceBuilder<Server> {
    service
        .custom_method(
            "textDocument/copilotPanelCompletion",
            Server::panel_completion,
        )
        .custom_method("checkStatus", Server::check_status)
        .custom_method("signIn", Server::sign_in)
        .custom_method("signInInitiate", Server::sign_in)
        .custom_method("signInConfirm", Server::check_status)
        .custom_method("signOut", Server::sign_out)
        .custom_method("getVersion", Server::get_version)
        .custom_method("setEditorInfo", Server::set_editor_info)
        .custom_method("getCompletions", Server::get_completions)
        .custom_method("getCompletionsCycling", Server::get_completions_cycling)
        .custom_method("getPanelCompletions", Server::get_panel_completions)
        .custom_method("notifyShown", Server::notify_shown)
        .custom_method("notifyAccepted", Server::notify_accepted)
        .custom_method("notifyRejected", Server::notify_rejected)
}

/// Answer about an account.
#[derive(Debug, Serialize)]
struct Account {
    status: AccountStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'static str>,
}

#[derive(Debug, Serialize)]
enum AccountStatus {
    #[serde(rename = "OK")]
    Ok,
    AlreadySignedIn,
}

impl Server {
    async fn check_status(&self, _: Value) -> Result<Account> {
        Ok(Account {
            status: AccountStatus::Ok,
            user: Some(USER),
        })
    }

    async fn sign_in(&self, _: Value) -> Result<Account> {
        Ok(Account {
            status: AccountStatus::AlreadySignedIn,
            user: Some(USER),
        })
    }

    /// There is nothing to sign out of, so the state after it is the one before.
    async fn sign_out(&self, _: Value) -> Result<Account> {
        Ok(Account {
            status: AccountStatus::Ok,
            user: None,
        })
    }

    /// Runs one of the other server's commands; `None` when `name` is none of them.
    pub(super) fn run_foreign_command(&self, name: &str, arguments: &[Value]) -> Option<Value> {
        match name {
            "github.copilot.didAcceptCompletionItem"
            | "github.copilot.didAcceptPanelCompletionItem" => {
                if let Some(id) = convert::item_id(arguments) {
                    self.completer.was_accepted(id);
                }
            }
            "github.copilot.finishDeviceFlow" => {}
            _ => return None,
        }
        Some(Value::Null)
    }
}
