//! The repository index of the workspace folders, as completion and the editor use it.
//!
//! Holds: indexing runs on threads of its own, at low priority; telling it of a change and asking
//! for its state cost a few copies and never wait. What a completion is given is looked up off the
//! request's thread ([`lookup`]).
//! Not here: how code is found (the `indexer` crate), what goes into a prompt (`context`).

mod lookup;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use indexer::{CursorQuery, Definition, Index, Options, Phase, Query, RepoPath, Status, Tokens};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::lookup::Lookup;
pub use self::vectors::VectorStatus;

use self::lookup::Recent;
use self::vectors::Vectors;
use crate::config::sources::Directories;
use crate::context::{Reason, Snippet};
use crate::error::{Kind, UserError};
use crate::local::Learning;
use crate::model::Embedder;
use crate::session::document::Document;

/// Pieces asked for, and the tokens they may take together.
const SNIPPETS: usize = 4;
const BUDGET: Tokens = Tokens(1024);
/// Text on each side of the cursor that is looked at.
const WINDOW: usize = 16 << 10;
/// Larger buffers are data, and are not shown to the index.
const MAX_BUFFER: usize = 2 << 20;

/// Returns where indexes are kept.
///
/// # Errors
/// When the user has no home directory.
pub fn cache_dir(directories: &Directories) -> Result<PathBuf, UserError> {
    let cache = directories.cache.as_ref().ok_or_else(|| {
        UserError::new(
            Kind::Settings,
            "There is no place for an index: the home directory is unknown.",
        )
        .with_hint("Set HOME or XDG_CACHE_HOME.")
    })?;
    Ok(cache.join("index"))
}

/// The indexes of all workspace folders. Cheap to clone; dropping the last clone ends them.
#[derive(Clone)]
pub struct Indexes {
    roots: Arc<[PathBuf]>,
    cache: PathBuf,
    /// Empty until they are loaded.
    folders: Arc<OnceLock<Vec<Folder>>>,
    recent: Recent,
    /// What is told of changes on disk besides.
    learning: Arc<Mutex<Option<Learning>>>,
    /// What fetches vectors of the model of `models.embed`, when there is one.
    vectors: Arc<Mutex<Option<Vectors>>>,
}

struct Folder {
    root: PathBuf,
    index: Arc<Index>,
    status: watch::Receiver<Status>,
}

/// The state of one folder's index: the answer to `pairwright/index/status`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderStatus {
    pub root: PathBuf,
    #[serde(flatten)]
    pub status: Status,
    /// Of the model of `models.embed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors: Option<VectorStatus>,
}

/// `pairwright/index/search`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchParams {
    pub query: String,
    /// Names or paths the user pointed at.
    #[serde(default)]
    pub mentioned: Vec<String>,
    /// Files to return; ten when not given.
    pub limit: Option<usize>,
}

/// A file found, in one of the folders.
#[derive(Debug, Serialize)]
pub struct Found {
    pub root: PathBuf,
    #[serde(flatten)]
    pub hit: indexer::FileHit,
}

/// What the code of a folder knows by one name.
#[derive(Debug, Default)]
pub struct Named {
    /// In order of path.
    pub definitions: Vec<(RepoPath, Definition)>,
    /// Files whose code has the name, in order of path.
    pub files: Vec<RepoPath>,
}

impl Indexes {
    /// Prepares the indexes of `roots`, kept in `cache`. They know nothing until
    /// [`load`](Self::load) was called.
    pub fn new(roots: &[PathBuf], cache: PathBuf) -> Self {
        Self {
            roots: roots.into(),
            cache,
            folders: Arc::default(),
            recent: Recent::default(),
            learning: Arc::default(),
            vectors: Arc::default(),
        }
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Reads what is on disk and starts to bring it up to date. Blocks for a tenth of a second for
    /// 10,000 files. A folder whose index cannot be kept is left out, and the log says why.
    pub fn load(&self) {
        self.folders.get_or_init(|| {
            let open = |root: &PathBuf| {
                let (tell, status) = watch::channel(Status::default());
                let (learning, folder) = (Arc::clone(&self.learning), root.clone());
                let opened = Index::open(Options {
                    on_change: Box::new(move |paths| {
                        let learning = learning.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(learning) = &*learning {
                            learning.changed(paths.iter().map(|path| path.under(&folder)));
                        }
                    }),
                    on_status: Box::new(move |status| {
                        tell.send_replace(status.clone());
                    }),
                    ..Options::new(root, &self.cache)
                });
                let index = opened.inspect_err(|why| {
                    tracing::warn!("the index of {} cannot be kept: {why}", root.display());
                });
                Some(Folder {
                    root: root.clone(),
                    index: Arc::new(index.ok()?),
                    status,
                })
            };
            self.roots.iter().filter_map(open).collect()
        });
    }

    /// Has an engine told of the changes on disk that the folders' watches notice, instead of the one
    /// before; `None` for none.
    pub fn tell(&self, learning: Option<Learning>) {
        let mut told = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        *told = learning;
    }

    /// Lets `embedder` turn the code of the loaded folders into vectors, instead of the one
    /// before; `None` for none. Must be called within a tokio runtime.
    pub fn use_embedder(&self, embedder: Option<&Embedder>) {
        let mut vectors = self.vectors();
        match embedder {
            None => *vectors = None,
            Some(embedder) if vectors.as_ref().is_some_and(|v| v.is_of(embedder)) => {}
            Some(embedder) => {
                let indexes = self.folders().iter();
                let indexes = indexes.map(|f| (Arc::downgrade(&f.index), f.status.clone()));
                *vectors = Some(Vectors::start(embedder.clone(), indexes));
            }
        }
    }

    /// Returns the vector of a question by the model of `models.embed`, if there is one and it
    /// answers in time.
    pub async fn question(&self, text: &str) -> Option<Vec<f32>> {
        let asked = self.vectors().as_ref().map(|v| v.question(text));
        asked?.await
    }

    fn vectors(&self) -> MutexGuard<'_, Option<Vectors>> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the text of an open document.
    pub fn edited(&self, document: &Document) {
        let Some((folder, path)) = self.folder_of(document) else {
            return;
        };
        if document.text.len_bytes() <= MAX_BUFFER {
            let text = document.text.to_string().into();
            folder.index.buffer_changed(path, text);
        } else {
            // What it was before it grew must not stay.
            folder.index.buffer_closed(path);
        }
    }

    pub fn closed(&self, document: &Document) {
        self.recent.forget(&document.uri);
        if let Some((folder, path)) = self.folder_of(document) {
            folder.index.buffer_closed(path);
        }
    }

    /// Finds where a name is defined in a folder: path, first line, one past the last, zero-based.
    pub fn definitions_of(&self, root: &Path, name: &str) -> Vec<(RepoPath, u32, u32)> {
        let mut folders = self.folders().iter();
        let folder = folders.find(|folder| self.is_same(&folder.root, root));
        folder.map_or_else(Vec::new, |folder| {
            folder.index.reader().definitions_of(name)
        })
    }

    /// Whether a name is defined in one of the folders `roots`, where other code may use it.
    pub fn defines(&self, roots: &[PathBuf], name: &str) -> bool {
        let defines = |root: &PathBuf| !self.definitions_of(root, name).is_empty();
        roots.iter().any(defines)
    }

    /// Finds what the code of a folder knows by a name. Reads the disk: some milliseconds for each
    /// thousand files.
    pub fn named(&self, root: &Path, name: &str) -> Named {
        let mut folders = self.folders().iter();
        let Some(folder) = folders.find(|folder| self.is_same(&folder.root, root)) else {
            return Named::default();
        };
        let reader = folder.index.reader();
        let places = reader.definitions_of(name).into_iter();
        let mut defining: Vec<RepoPath> = places.map(|(path, ..)| path).collect();
        defining.sort_unstable();
        defining.dedup();
        let mut named = Named {
            definitions: Vec::new(),
            files: reader.files_with(name),
        };
        for path in defining {
            let unit = reader.unit(&path);
            let all = unit.iter().flat_map(|unit| &unit.definitions);
            let of_name = all.filter(|definition| definition.name == name);
            let found = of_name.map(|definition| (path.clone(), definition.clone()));
            named.definitions.extend(found);
        }
        named
    }

    /// Says that files may have changed.
    pub fn changed(&self, paths: &[PathBuf]) {
        for folder in self.folders() {
            let inside = paths.iter().filter(|path| path.starts_with(&folder.root));
            let inside: Vec<PathBuf> = inside.cloned().collect();
            if !inside.is_empty() {
                folder.index.changed(inside);
            }
        }
    }

    /// Looks up what a completion at byte `offset` may need of other files; what was found for a
    /// place close by a moment ago is there at once.
    pub fn near(&self, document: &Document, offset: usize) -> Lookup {
        let Some((folder, path)) = self.folder_of(document) else {
            return Lookup::nothing();
        };
        let Some(path) = RepoPath::below(&folder.root, path) else {
            return Lookup::nothing();
        };
        let reader = folder.index.reader();
        let start = document
            .text
            .line_to_byte(document.text.byte_to_line(offset.saturating_sub(WINDOW)));
        let end = document
            .text
            .byte_to_line((offset + WINDOW).min(document.text.len_bytes()));
        let end = document.text.line_to_byte(end).max(offset);
        let text = document.slice(start..end);
        let line = document.text.byte_to_line(offset);
        self.recent.look_up(&document.uri, line, move |until| {
            let snippets = reader.near_cursor(&CursorQuery {
                path: &path,
                text: &text,
                cursor: offset.saturating_sub(start),
                limit: SNIPPETS,
                budget: BUDGET,
                until: Some(until),
            });
            let snippet = |found: indexer::Snippet| Snippet {
                path: found.path.to_string(),
                line: found.first_line as usize,
                text: found.text,
                reason: Reason::Repository,
            };
            snippets.into_iter().map(snippet).collect()
        })
    }

    /// Finds the files that a question is about, best first within each folder.
    /// `vector` is the [`question`](Self::question)'s.
    pub fn search(
        &self,
        params: &SearchParams,
        open: &[Arc<Document>],
        vector: Option<&[f32]>,
    ) -> Vec<Found> {
        let limit = params.limit.unwrap_or(10).min(1000);
        let mut found: Vec<Found> = Vec::new();
        for folder in self.folders() {
            let open: Vec<RepoPath> = open
                .iter()
                .filter_map(|document| RepoPath::below(&folder.root, document.path.as_deref()?))
                .collect();
            let hits = folder.index.reader().search(&Query {
                open: &open,
                mentioned: &params.mentioned,
                limit,
                vector,
                ..Query::new(&params.query)
            });
            let root = folder.root.clone();
            found.extend(hits.into_iter().map(|hit| Found {
                root: root.clone(),
                hit,
            }));
        }
        found.sort_by(|a, b| b.hit.score.total_cmp(&a.hit.score));
        found.truncate(limit);
        found
    }

    /// Draws the map of a folder: the definitions that matter most, in at most `budget` tokens.
    pub fn map(&self, root: &Path, budget: u32) -> Option<String> {
        let mut folders = self.folders().iter();
        let folder = folders.find(|folder| self.is_same(&folder.root, root))?;
        let map = folder.index.reader().map(&indexer::MapQuery {
            budget: Tokens(budget),
            focus: &[],
            mentioned: "",
        });
        Some(map.text)
    }

    /// Whether a folder, as the client spells it, is the one at `real`, links resolved.
    pub fn is_same(&self, root: &Path, real: &Path) -> bool {
        root == real || root.canonicalize().is_ok_and(|root| root == real)
    }

    /// Waits until the folders are indexed as they are now, or until `deadline`.
    pub fn settle(&self, deadline: Instant) {
        for folder in self.folders() {
            folder.index.wait_until_settled(deadline);
        }
    }

    /// Files indexed of those known in the folder at `root`, links resolved, while its index is not
    /// done; of none before it is open.
    pub fn indexing(&self, root: &Path) -> Option<(usize, usize)> {
        let Some(folders) = self.folders.get() else {
            return Some((0, 0));
        };
        let mut folders = folders.iter();
        let folder = folders.find(|folder| self.is_same(&folder.root, root))?;
        let status = folder.index.status();
        (status.phase != Phase::Ready).then_some((status.n_indexed, status.n_files))
    }

    pub fn statuses(&self) -> Vec<FolderStatus> {
        let vectors = self.vectors().as_ref().map(Vectors::status);
        let status = |folder: &Folder| FolderStatus {
            root: folder.root.clone(),
            status: folder.index.status(),
            vectors: vectors.clone(),
        };
        self.folders().iter().map(status).collect()
    }

    /// Returns how many files wait to be looked at.
    pub fn pending(&self) -> usize {
        let folders = self.folders().iter();
        folders.map(|folder| folder.status.borrow().pending).sum()
    }

    /// Returns the state of each folder as it changes.
    pub fn watch(&self) -> Vec<(PathBuf, watch::Receiver<Status>)> {
        let watch = |folder: &Folder| (folder.root.clone(), folder.status.clone());
        self.folders().iter().map(watch).collect()
    }

    fn folders(&self) -> &[Folder] {
        self.folders.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the innermost folder that a document lies in, and its path.
    fn folder_of<'a>(&'a self, document: &'a Document) -> Option<(&'a Folder, &'a Path)> {
        let path = document.path.as_deref()?;
        let inside = self
            .folders()
            .iter()
            .filter(|folder| path.starts_with(&folder.root));
        let folder = inside.max_by_key(|folder| folder.root.as_os_str().len())?;
        Some((folder, path))
    }
}

impl std::fmt::Debug for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.roots.iter()).finish()
    }
}
