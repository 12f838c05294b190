//! `pairwright/diff/{list,preview,apply,resolve,rollback}`, as requests and as commands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustc_hash::FxHashSet;
use serde_json::{Value, json};
use tower_lsp_server::gen_lsp_types as lsp;
use tower_lsp_server::jsonrpc;

use super::documents::EditorDocuments;
use super::failed;
use super::shown::file_hunks;
use super::wire::{
    Action, ApplyParams, ApplyResponse, FileHunks, ListParams, ListResponse, PreviewParams,
    PreviewResponse, ResolveParams, RollbackMode, RollbackParams,
};
use crate::edit::hunks::HunkState;
use crate::edit::journal::Token;
use crate::edit::parse::{EditSet, Format, Parser};
use crate::edit::path::RepoPath;
use crate::edit::plan::Options;
use crate::edit::rollback::Mode;
use crate::edit::workspace::{Choice, EditError, Outcome, Workspace};
use crate::lsp::Server;
use crate::lsp::commands::{read, unknown, write};

/// Author of proposals whose sender names none.
const AUTHOR: &str = "editor";

/// Commands of hunks for editors without a plugin, as advertised; the rest are requests as well.
pub(in crate::lsp) const COMMANDS: &[&str] = &[
    "pairwright.acceptHunk",
    "pairwright.rejectHunk",
    "pairwright.acceptAll",
    "pairwright.rejectAll",
    "pairwright.undoLastEdit",
];

impl Server {
    pub(in crate::lsp) async fn diff_list(
        &self,
        params: ListParams,
    ) -> jsonrpc::Result<ListResponse> {
        let only = params.text_document.map(|d| d.uri.0);
        let files = self.hunks(only).await?;
        Ok(ListResponse { files })
    }

    /// The hunks of one document, or of all files of all folders.
    pub(super) async fn hunks(&self, only: Option<String>) -> jsonrpc::Result<Vec<FileHunks>> {
        let roots: Vec<(PathBuf, Option<RepoPath>)> = match only {
            None => {
                let snapshot = self.session.snapshot();
                snapshot.roots.iter().map(|r| (r.clone(), None)).collect()
            }
            Some(uri) => match self.within(&uri) {
                Some((root, path)) => vec![(root, Some(path))],
                None => Vec::new(),
            },
        };
        let mut files = Vec::new();
        for (root, path) in roots {
            let of_root = self.with_workspace(root, move |workspace, documents| {
                let listed = workspace.list();
                let files = listed
                    .iter()
                    .flat_map(|p| p.files.iter().map(move |f| (p, f)));
                Ok(files
                    .filter(|(_, f)| path.as_ref().is_none_or(|path| f.is_about(path)))
                    .map(|(p, f)| file_hunks(workspace, documents, p, f))
                    .collect::<Vec<_>>())
            });
            files.extend(of_root.await?);
        }
        Ok(files)
    }

    pub(in crate::lsp) async fn diff_preview(
        &self,
        params: PreviewParams,
    ) -> jsonrpc::Result<PreviewResponse> {
        let (root, target) = match &params.text_document {
            Some(document) => {
                let (root, path) = self.within(&document.uri.0).ok_or_else(|| {
                    jsonrpc::Error::invalid_params("the document is in no folder that is open")
                })?;
                (root, Some(path))
            }
            None => (self.first_root()?, None),
        };
        let format = match params.format.as_deref() {
            None => Format::Auto,
            Some(name) => <Format as clap::ValueEnum>::from_str(name, true)
                .map_err(jsonrpc::Error::invalid_params)?,
        };
        let mut bases = BTreeMap::new();
        for (path, text) in params.bases {
            let path = RepoPath::parse(&path)
                .map_err(|why| jsonrpc::Error::invalid_params(format!("{path}: {why}")))?;
            bases.insert(path, text.into_bytes());
        }
        let response = self.with_workspace(root, move |workspace, documents| {
            let author = params.author.as_deref().unwrap_or(AUTHOR);
            let step = params.step.as_deref();
            let base = |path: &RepoPath| bases.get(path).cloned();
            let options = Options {
                target,
                base: Some(&base),
            };
            let mut parser = Parser::new(format);
            parser.push(&params.answer);
            let proposal = if params.partial {
                let edits = EditSet {
                    format,
                    edits: parser.edits().to_vec(),
                };
                match workspace.preview(documents, &edits, &options, author, step) {
                    Ok(proposal) => proposal,
                    // The rest of the answer may mend it.
                    Err(EditError::Refused(_)) => {
                        return Ok(PreviewResponse {
                            proposal: None,
                            files: Vec::new(),
                        });
                    }
                    Err(why) => return Err(error(&why)),
                }
            } else {
                let edits = parser
                    .finish()
                    .map_err(|why| error(&EditError::Refused(vec![why])))?;
                workspace
                    .propose(documents, &edits, &options, author, step)
                    .map_err(|why| error(&why))?
            };
            for file in &proposal.files {
                documents.follow(file.moved_from.as_ref().unwrap_or(&file.path));
            }
            let files = proposal.files.iter();
            let response = PreviewResponse {
                files: files
                    .map(|f| file_hunks(workspace, documents, &proposal, f))
                    .collect(),
                proposal: (!params.partial).then(|| proposal.id.clone()),
            };
            if !params.partial {
                let uris = response.files.iter().map(|f| f.uri.clone()).collect();
                documents.server().tell_hunks_changed(uris);
            }
            Ok(response)
        });
        response.await
    }

    pub(in crate::lsp) async fn diff_apply(
        &self,
        params: ApplyParams,
    ) -> jsonrpc::Result<ApplyResponse> {
        self.decide(params, Action::Accept).await
    }

    pub(in crate::lsp) async fn diff_resolve(
        &self,
        params: ResolveParams,
    ) -> jsonrpc::Result<ApplyResponse> {
        self.decide(params.which, params.action).await
    }

    async fn decide(&self, params: ApplyParams, action: Action) -> jsonrpc::Result<ApplyResponse> {
        let (choice, found) = match (params.hunks, params.proposal, params.text_document) {
            (Some(hunks), None, None) => {
                let found = self.by_folder(hunks.clone()).await;
                (Choice::Hunks(hunks), found)
            }
            (None, Some(proposal), None) => {
                let found = self.folder_proposing(&proposal).await;
                let choice = Choice::Proposal(proposal);
                (choice.clone(), found.map(|root| vec![(root, choice)]))
            }
            (None, None, Some(document)) => {
                let (root, path) = self.within(&document.uri.0).ok_or_else(|| {
                    jsonrpc::Error::invalid_params("the document is in no folder that is open")
                })?;
                let choice = Choice::File(path);
                (choice.clone(), Ok(vec![(root, choice)]))
            }
            _ => {
                return Err(jsonrpc::Error::invalid_params(
                    "name one of `hunks`, `proposal` and `textDocument`",
                ));
            }
        };
        let of_folders = match found {
            Ok(of_folders) => of_folders,
            // What was decided in an earlier run is not listed, but answers the same again.
            Err(why) => match self.folder_that_did(params.request_id.as_deref()).await? {
                Some(root) => vec![(root, choice)],
                None => return Err(why),
            },
        };
        let mut response = ApplyResponse::default();
        for (root, choice) in of_folders {
            let request = params.request_id.clone();
            let done = self.with_workspace(root, move |workspace, documents| {
                let done = match action {
                    Action::Accept => workspace.accept(documents, &choice, request.as_deref()),
                    Action::Reject => workspace.reject(documents, &choice, request.as_deref()),
                };
                answer(workspace, documents, done)
            });
            match done.await {
                Ok(done) => response.add(done),
                Err(why) => return Err(response.with_failure(why)),
            }
        }
        Ok(response)
    }

    /// Hunks with the folders they are in; none is decided where one is in no folder.
    async fn by_folder(&self, hunks: Vec<String>) -> jsonrpc::Result<Vec<(PathBuf, Choice)>> {
        let mut of_folders = Vec::new();
        let mut left = hunks;
        for root in self.session.snapshot().roots.to_vec() {
            let finding = self.with_workspace(root.clone(), move |workspace, _| {
                let listed = workspace.list();
                let known: FxHashSet<&str> = listed
                    .iter()
                    .flat_map(|p| p.hunks())
                    .map(|(_, hunk)| hunk.id.as_str())
                    .collect();
                let is_known = |id: &String| known.contains(id.as_str());
                Ok(left.into_iter().partition::<Vec<_>, _>(is_known))
            });
            let here: Vec<String>;
            (here, left) = finding.await?;
            if !here.is_empty() {
                of_folders.push((root, Choice::Hunks(here)));
            }
        }
        match left.into_iter().next() {
            Some(unknown) => Err(error(&EditError::UnknownHunk(unknown))),
            None => Ok(of_folders),
        }
    }

    /// The folder that a proposal is for.
    async fn folder_proposing(&self, proposal: &str) -> jsonrpc::Result<PathBuf> {
        for root in self.session.snapshot().roots.to_vec() {
            let id = proposal.to_owned();
            let is_here = self.with_workspace(root.clone(), move |workspace, _| {
                Ok(workspace.list().iter().any(|p| p.id == id))
            });
            if is_here.await? {
                return Ok(root);
            }
        }
        Err(error(&EditError::UnknownProposal(proposal.to_owned())))
    }

    pub(in crate::lsp) async fn diff_rollback(
        &self,
        params: RollbackParams,
    ) -> jsonrpc::Result<ApplyResponse> {
        let mode = match params.mode {
            RollbackMode::AllOrNothing => Mode::AllOrNothing,
            RollbackMode::CleanOnly => Mode::CleanOnly,
        };
        let request = params.request_id;
        let (root, token) = match params.rollback_token {
            Some(token) => (self.folder_with(&token).await?, token),
            None => match self.folder_that_did(request.as_deref()).await? {
                // Asked again: its workspace answers what it did, whatever stands last by now.
                Some(root) => (root, Token::new().to_string()),
                None => self.last_edit().await?,
            },
        };
        self.with_workspace(root, move |workspace, documents| {
            let done = workspace.rollback(documents, &token, mode, request.as_deref());
            answer(workspace, documents, done)
        })
        .await
    }

    /// The folder in which something was done under this request key.
    async fn folder_that_did(&self, request: Option<&str>) -> jsonrpc::Result<Option<PathBuf>> {
        let Some(request) = request else {
            return Ok(None);
        };
        for root in self.session.snapshot().roots.to_vec() {
            let wanted = request.to_owned();
            let looking = self.with_workspace(root.clone(), move |workspace, _| {
                let did = workspace.has_done(&wanted);
                did.map_err(|why| failed(&why.to_string()))
            });
            if looking.await? {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }

    /// The folder whose journal has a token.
    async fn folder_with(&self, token: &str) -> jsonrpc::Result<PathBuf> {
        for root in self.session.snapshot().roots.to_vec() {
            let wanted = token.to_owned();
            let is_here = self.with_workspace(root.clone(), move |workspace, _| {
                let known = workspace.has_token(&wanted);
                known.map_err(|why| failed(&why.to_string()))
            });
            if is_here.await? {
                return Ok(root);
            }
        }
        Err(error(&EditError::UnknownToken(token.to_owned())))
    }

    /// The last edit that stands, of all folders.
    async fn last_edit(&self) -> jsonrpc::Result<(PathBuf, String)> {
        let mut newest = None;
        for root in self.session.snapshot().roots.to_vec() {
            let looking = self.with_workspace(root.clone(), |workspace, _| {
                workspace.last().map_err(|why| failed(&why.to_string()))
            });
            if let Some(entry) = looking.await? {
                // Tokens sort by age, within a millisecond too.
                newest = newest.max(Some((entry.token.to_string(), root)));
            }
        }
        let (token, root) = newest.ok_or_else(|| {
            jsonrpc::Error::invalid_params("no edit stands that could be taken back")
        })?;
        Ok((root, token))
    }

    /// Runs one of [`COMMANDS`].
    pub(in crate::lsp) async fn run_edit_command(
        &self,
        name: &str,
        first: Value,
    ) -> jsonrpc::Result<Value> {
        match name {
            "pairwright.acceptHunk" | "pairwright.rejectHunk" => {
                let hunks: Vec<String> = match first {
                    Value::String(id) => vec![id],
                    list => read(list)?,
                };
                let action = action_of(name);
                self.decide(all_of(Some(hunks), None), action)
                    .await
                    .and_then(write)
            }
            "pairwright.acceptAll" | "pairwright.rejectAll" => {
                let action = action_of(name);
                match first {
                    Value::String(uri) => {
                        let document = lsp::TextDocumentIdentifier { uri: lsp::Uri(uri) };
                        let which = all_of(None, Some(document));
                        self.decide(which, action).await.and_then(write)
                    }
                    _ => {
                        let files = self.hunks(None).await?;
                        let hunks = files.into_iter().flat_map(|f| f.hunks);
                        let pending = hunks.filter(|h| h.state == HunkState::Pending);
                        let ids = pending.map(|h| h.id).collect();
                        self.decide(all_of(Some(ids), None), action)
                            .await
                            .and_then(write)
                    }
                }
            }
            "pairwright.undoLastEdit" => self
                .diff_rollback(RollbackParams::default())
                .await
                .and_then(write),
            other => Err(unknown(other)),
        }
    }
}

fn action_of(command: &str) -> Action {
    match command.starts_with("pairwright.accept") {
        true => Action::Accept,
        false => Action::Reject,
    }
}

fn all_of(
    hunks: Option<Vec<String>>,
    text_document: Option<lsp::TextDocumentIdentifier>,
) -> ApplyParams {
    ApplyParams {
        hunks,
        text_document,
        ..ApplyParams::default()
    }
}

/// Answers a decision: conflicts are an answer, too, with nothing changed.
fn answer(
    workspace: &Workspace,
    documents: &EditorDocuments,
    done: Result<Outcome, EditError>,
) -> jsonrpc::Result<ApplyResponse> {
    match done {
        Ok(outcome) => {
            let decided = &outcome.hunks;
            let uris = workspace.list();
            let uris = uris
                .iter()
                .flat_map(|p| p.hunks())
                .filter(|(_, h)| decided.contains(&h.id))
                .map(|(f, _)| documents.uri(&f.path));
            let mut uris: Vec<String> = uris.collect();
            uris.sort_unstable();
            uris.dedup();
            documents.server().tell_hunks_changed(uris);
            let token = outcome.rollback_token.map(|t| t.to_string());
            Ok(ApplyResponse {
                rollback_tokens: token.iter().cloned().collect(),
                rollback_token: token,
                applied: outcome.hunks,
                paths: outcome.paths,
                conflicts: outcome.conflicts,
            })
        }
        Err(EditError::Conflicts(conflicts)) => Ok(ApplyResponse {
            conflicts,
            ..ApplyResponse::default()
        }),
        Err(why) => Err(error(&why)),
    }
}

/// An edit error in the protocol's terms, with the refusals of each file as data.
pub(super) fn error(why: &EditError) -> jsonrpc::Error {
    let unknown = matches!(
        why,
        EditError::UnknownHunk(_)
            | EditError::UnknownProposal(_)
            | EditError::UnknownToken(_)
            | EditError::Expired(_)
            | EditError::NothingDone(_)
    );
    let mut error = match unknown {
        true => jsonrpc::Error::invalid_params(why.to_string()),
        false => failed(&why.to_string()),
    };
    if let EditError::Refused(refused) = why {
        error.data = Some(json!({ "refused": refused }));
    }
    error
}
