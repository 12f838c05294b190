//! Settings while the server runs: asked of the client, watched on disk, put in force.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tower_lsp_server::gen_lsp_types as lsp;

use super::Server;
use super::sync::read;
use crate::config::layers::Resolved;
use crate::config::watched::Watched;
use crate::index::{self, Indexes};
use crate::local::{self, Engine, Learning};
use crate::model::Health;

/// The section of the client's settings that is ours.
const SECTION: &str = "pairwright";

impl Server {
    pub(super) async fn did_change_configuration(&self, params: Value) {
        let Some(params) =
            read::<lsp::DidChangeConfigurationParams>("didChangeConfiguration", params)
        else {
            return;
        };
        self.settings.set_editor(&params.settings);
        // Clients of the newer kind send nothing and are asked.
        let server = self.clone();
        tokio::spawn(async move { server.ask_for_settings().await });
    }

    pub(super) async fn did_change_workspace_folders(&self, params: Value) {
        let Some(params) =
            read::<lsp::DidChangeWorkspaceFoldersParams>("didChangeWorkspaceFolders", params)
        else {
            return;
        };
        let path = |folder: &lsp::WorkspaceFolder| crate::session::document::path_of(&folder.uri.0);
        let removed: Vec<_> = params.event.removed.iter().filter_map(path).collect();
        let mut roots = self.session.snapshot().roots.to_vec();
        roots.retain(|root| !removed.contains(root));
        let mut added: Vec<_> = params.event.added.iter().filter_map(path).collect();
        added.retain(|root| !roots.contains(root));
        roots.extend(added.iter().cloned());
        self.session.set_roots(roots.clone());
        self.settings.set_roots(roots);
        self.roots_changed.notify_one();
        if self.started.get().is_some() && !added.is_empty() {
            tokio::spawn(self.clone().tell_unfinished(added));
        }
    }

    /// Begins the background work: once, when the client is ready.
    pub(super) fn start(&self) {
        if self.started.set(()).is_err() {
            return;
        }
        tokio::spawn(self.clone().tell_status(self.told.subscribe()));
        // What changes from here on is seen by the task that follows.
        let mut settings = self.settings.watch();
        let resolved = settings.borrow_and_update().clone();
        self.put_in_force(&resolved);
        self.recover_edits();
        tokio::spawn(
            self.clone()
                .tell_unfinished(self.session.snapshot().roots.to_vec()),
        );
        if let Some(Some(client)) = self.client_info.get() {
            let version = client.version.as_deref().unwrap_or("of unknown version");
            let own = env!("CARGO_PKG_VERSION");
            tracing::info!("Pairwright {own} for {} {version}", client.name);
        }
        let server = self.clone();
        tokio::spawn(async move { server.follow_settings(settings).await });
    }

    /// Asks the client to tell about changes, and for its settings.
    pub(super) async fn register(&self) {
        let client = self.client_can();
        let mut wanted = Vec::new();
        if client.registers_configuration {
            wanted.push(registration(
                "workspace/didChangeConfiguration",
                json!({ "section": SECTION }),
            ));
        }
        if client.registers_watched_files {
            let watchers = json!({ "watchers": [{ "globPattern": "**/*" }] });
            wanted.push(registration("workspace/didChangeWatchedFiles", watchers));
        }
        if !wanted.is_empty()
            && let Err(why) = self.client.register_capability(wanted).await
        {
            tracing::debug!(%why, "the client does not register what it said it would");
        }
        self.ask_for_settings().await;
        self.may_ask_for_settings();
    }

    async fn ask_for_settings(&self) {
        if !self.client_can().configuration {
            return;
        }
        let item = lsp::ConfigurationItem {
            scope_uri: None,
            section: Some(SECTION.into()),
        };
        match self.client.configuration(vec![item]).await {
            Ok(sections) => {
                if let Some(section @ Value::Object(_)) = sections.into_iter().next() {
                    self.settings.set_editor(&json!({ SECTION: section }));
                }
            }
            Err(why) => tracing::debug!(%why, "the client does not tell its settings"),
        }
    }

    /// Puts every change of the settings and of the folders in force, and tells the client what
    /// follows from it. Nobody else does once this runs, so that the newest is what stays.
    async fn follow_settings(&self, mut settings: watch::Receiver<Arc<Resolved>>) {
        // Clients tell of the files in workspaces.
        let user_file = self.settings.directories().user_file();
        let mut watched = Watched::new(user_file.into_iter().collect());
        // What changed before the watch began was seen by nobody.
        self.settings.reload();
        let mut told_health = None;
        loop {
            let model = self.completer.engines().model().cloned();
            // Looked at before it is told: what is learnt in between is told again.
            let engines = self.completer.engines();
            let learning = engines.local.as_ref().map(Engine::learning);
            let learning = learning.filter(|l| l.status().state != local::State::Idle);
            drop(engines);
            self.status_may_have_changed();
            let health_changed = async {
                match &model {
                    Some(model) => model.health_unlike(told_health.as_ref()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let resolved = settings.borrow_and_update().clone();
                    self.put_in_force(&resolved);
                }
                health = health_changed => {
                    if let Health::Failing { why } | Health::Paused { why, .. } = &health {
                        tracing::warn!("{why}");
                    }
                    told_health = Some(health);
                }
                () = self.roots_changed.notified() => self.put_in_force(&self.settings.get()),
                () = watched.changed() => self.settings.reload(),
                () = learnt(learning) => {}
            }
        }
    }

    fn put_in_force(&self, resolved: &Arc<Resolved>) {
        let settings = &resolved.settings;
        let state = self.settings.directories().state.as_deref();
        self.log.configure(&settings.log, state);
        for problem in &resolved.problems {
            tracing::warn!("Settings: {problem}");
        }
        self.ask_for_settings_files();
        let roots = self.session.snapshot().roots;
        let before = self.completer.engines();
        let (mut engines, problems) =
            self.completer
                .engines()
                .with(Arc::new(settings.clone()), &roots, &self.exclude);
        let fresh_index = match index::cache_dir(self.settings.directories()) {
            Ok(cache) => engines.add_index(&before, &roots, cache),
            // Nothing else depends on it.
            Err(why) => {
                tracing::info!("{why}");
                None
            }
        };
        for problem in &problems {
            tracing::warn!("{problem}");
        }
        self.problem
            .send_replace(problems.first().map(ToString::to_string));
        if let Some(model) = engines.model() {
            model.warm();
            // Finding out what the endpoint supports must not wait for the first keystroke.
            let model = model.clone();
            tokio::spawn(async move { model.probe().await });
        }
        let models = &engines.models;
        for model in [&models.chat, &models.agent, &models.edit]
            .into_iter()
            .flatten()
        {
            model.warm();
        }
        let fresh = engines.local_unlike(&before).cloned();
        if let Some(index) = &engines.index
            && fresh_index.is_none()
        {
            index.use_embedder(engines.models.embed.as_ref());
        }
        self.completer.set_engines(engines);
        // The last one to let go of an engine waits for its thread, which may be at work.
        drop(tokio::task::spawn_blocking(move || drop(before)));
        if let Some(local) = fresh {
            let engines = self.completer.engines();
            self.session
                .tell_open(|d| engines.edited(d), |d| engines.closed(d));
            self.show_learning(local.learning());
        }
        if let Some(index) = fresh_index {
            tokio::spawn(self.clone().load_index(index));
        }
        self.status_may_have_changed();
    }

    /// Loads an index, tells it what is open, and shows how it comes along.
    async fn load_index(self, index: Indexes) {
        let loaded = index.clone();
        if tokio::task::spawn_blocking(move || loaded.load())
            .await
            .is_err()
        {
            return;
        }
        self.session
            .tell_open(|d| index.edited(d), |d| index.closed(d));
        index.use_embedder(self.completer.engines().models.embed.as_ref());
        for (root, status) in index.watch() {
            tokio::spawn(self.clone().tell_lag(status.clone()));
            tokio::spawn(self.clone().show_indexing(root, status));
        }
        // Other settings may be in force by now, and this the last one to let go of it.
        drop(tokio::task::spawn_blocking(move || drop(index)));
    }
}

/// Waits until an engine has learnt, or is gone; for ever where there is none.
async fn learnt(learning: Option<Learning>) {
    let Some(learning) = learning else {
        return std::future::pending().await;
    };
    let wait = move || {
        let deadline = std::time::Instant::now() + Duration::from_secs(600);
        learning.wait_learnt(deadline)
    };
    let _ = tokio::task::spawn_blocking(wait).await;
}

fn registration(method: &str, options: Value) -> lsp::Registration {
    lsp::Registration {
        id: format!("pairwright:{method}"),
        method: method.into(),
        register_options: Some(options),
    }
}
