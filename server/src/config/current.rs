//! The settings in force while the server runs: each source read anew when it changes, the result
//! published.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::layers::{Layer, Origin, Problem, Resolved, resolve};
use super::sources::{self, Directories};
use super::trust::{Standing, Trust, Word, Words};
use crate::error::UserError;

/// All sources of settings and what they come to.
#[derive(Debug)]
pub struct Current {
    directories: Directories,
    editor: Mutex<Editor>,
    resolved: watch::Sender<Arc<Resolved>>,
}

#[derive(Debug, Default)]
struct Editor {
    roots: Vec<PathBuf>,
    /// What the editor sent at start, and what it says now; the latter wins.
    initial: Option<Layer>,
    present: Option<Layer>,
}

/// What the sources hold.
struct Found {
    layers: Vec<Layer>,
    problems: Vec<Problem>,
    trust: Trust,
    unread: Vec<PathBuf>,
}

impl Current {
    /// Reads the user's file and the environment.
    pub fn load(directories: Directories) -> Self {
        let (resolved, _) = watch::channel(Arc::default());
        let current = Self {
            directories,
            editor: Mutex::default(),
            resolved,
        };
        current.reload();
        current
    }

    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    pub fn get(&self) -> Arc<Resolved> {
        Arc::clone(&self.resolved.borrow())
    }

    /// Returns the settings as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<Resolved>> {
        self.resolved.subscribe()
    }

    /// Takes what the editor sent at start, and the workspace folders.
    pub fn start(&self, options: &Value, roots: Vec<PathBuf>) {
        self.change(|editor| {
            editor.initial = sources::editor_layer(options);
            editor.roots = roots;
        });
    }

    /// Takes what the editor says now; an answer without a section of ours changes nothing.
    pub fn set_editor(&self, sent: &Value) {
        if let Some(layer) = sources::editor_layer(sent) {
            self.change(|editor| editor.present = Some(layer));
        }
    }

    pub fn set_roots(&self, roots: Vec<PathBuf>) {
        self.change(|editor| editor.roots = roots);
    }

    /// Reads all files again; publishes only what differs.
    pub fn reload(&self) {
        self.change(|_| {});
    }

    /// Keeps what the user says of a folder, and puts what follows from it in force.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn say_of(&self, folder: &Path, word: Word) -> Result<(), UserError> {
        Words::say(&self.directories, folder, word)?;
        self.reload();
        Ok(())
    }

    /// Takes trust in a folder back.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub fn revoke(&self, folder: &Path) -> Result<(), UserError> {
        Words::revoke(&self.directories, folder)?;
        self.reload();
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Editor)) {
        let mut editor = self.editor.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut editor);
        let Found {
            layers,
            problems,
            trust,
            unread,
        } = self.find(&editor);
        let mut next = resolve(&layers);
        // Nobody knows what a file of the user's that cannot be read says of it.
        let is_users = |problem: &Problem| matches!(problem.origin, Origin::UserFile(_));
        next.settings.outbound.is_unread |= problems.iter().any(is_users);
        next.problems.extend(problems);
        next.trust = trust;
        next.unread = unread;
        self.resolved.send_if_modified(|resolved| {
            let changed = **resolved != next;
            if changed {
                *resolved = Arc::new(next);
            }
            changed
        });
    }

    fn find(&self, editor: &Editor) -> Found {
        let (user, problem) = sources::user_layer(&self.directories);
        let mut problems: Vec<Problem> = problem.into_iter().collect();
        let mut above: Vec<Layer> = editor
            .initial
            .iter()
            .chain(&editor.present)
            .cloned()
            .collect();
        above.push(sources::environment_layer(|name| env::var(name).ok()));
        // A folder has no say in whether it is trusted.
        let own: Vec<Layer> = user.iter().chain(&above).cloned().collect();
        let trust = Trust {
            named: resolve(&own).settings.workspace.trusted,
            words: Words::read(&self.directories),
        };
        let mut layers: Vec<Layer> = user.into_iter().collect();
        let mut unread = Vec::new();
        for root in &editor.roots {
            let (layer, problem) = sources::workspace_layer(root);
            let standing = trust.of(root);
            match layer {
                Some(layer) if standing != Standing::Trusted => {
                    if standing == Standing::Unknown && !layer.values.is_empty() {
                        unread.push(root.clone());
                    }
                    problems.push(Problem {
                        origin: layer.origin,
                        message: "not read, because the folder is not trusted; `pairwright trust` \
                                  says that it is"
                            .into(),
                    });
                }
                layer => {
                    layers.extend(layer);
                    problems.extend(problem);
                }
            }
        }
        layers.extend(above);
        Found {
            layers,
            problems,
            trust,
            unread,
        }
    }
}
