//! The settings in force while the server runs: each source read anew when it changes, the result
//! published.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::layers::{Layer, Problem, Resolved, resolve};
use super::sources::{self, Directories};

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

    fn change(&self, change: impl FnOnce(&mut Editor)) {
        let mut editor = self.editor.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut editor);
        let (layers, problems) = self.layers(&editor);
        let mut next = resolve(&layers);
        next.problems.extend(problems);
        self.resolved.send_if_modified(|resolved| {
            let changed = **resolved != next;
            if changed {
                *resolved = Arc::new(next);
            }
            changed
        });
    }

    fn layers(&self, editor: &Editor) -> (Vec<Layer>, Vec<Problem>) {
        let mut read = vec![sources::user_layer(&self.directories)];
        read.extend(
            editor
                .roots
                .iter()
                .map(|root| sources::workspace_layer(root)),
        );
        let (layers, problems): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let mut layers: Vec<Layer> = layers.into_iter().flatten().collect();
        layers.extend(editor.initial.iter().chain(&editor.present).cloned());
        layers.push(sources::environment_layer(|name| env::var(name).ok()));
        (layers, problems.into_iter().flatten().collect())
    }
}
