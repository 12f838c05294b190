//! `pairwright serve-completions`: ghost text for editors that ask an OpenAI-compatible server.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use tracing::Level;

use crate::complete::engines::Engines;
use crate::config::current::Current;
use crate::config::sources::{Directories, WORKSPACE_FILE};
use crate::config::watched::Watched;
use crate::index;
use crate::log::Log;
use crate::model::Health;
use crate::openai::{Endpoint, Token};

#[derive(Debug, clap::Args)]
pub(super) struct ServeCompletions {
    /// Folder that the editor works in
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: Vec<PathBuf>,
    /// Port of 127.0.0.1 to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8417)]
    port: u16,
    /// File with the token that clients show as the API key; made where it is not there [default:
    /// completions-token in the state directory]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the token and do nothing else
    #[arg(long)]
    show_token: bool,
}

impl ServeCompletions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let directories = Directories::find();
        let file = match (self.token_file, &directories.state) {
            (Some(file), _) => file,
            (None, Some(state)) => state.join("completions-token"),
            (None, None) => bail!("there is no state directory: name a file with --token-file"),
        };
        let token = Token::of_file(&file)?;
        if self.show_token {
            writeln!(anstream::stdout(), "{}", token.reveal())?;
            return Ok(ExitCode::SUCCESS);
        }
        let roots = self
            .root
            .iter()
            .map(|root| {
                root.canonicalize()
                    .with_context(|| format!("{} cannot be read", root.display()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (log, mut lines) = Log::start();
        let runtime = super::runtime()?;
        // Whoever started this sees what the log warns of.
        runtime.spawn(async move {
            while let Some(line) = lines.recv().await {
                if line.level <= Level::WARN {
                    // A terminal that is gone is no reason to stop.
                    let _ = writeln!(anstream::stderr(), "{}", line.text);
                }
            }
        });
        let _entered = runtime.enter();
        let settings = Current::load(directories);
        settings.set_roots(roots.clone());
        let serving = Serving {
            settings,
            roots,
            log,
        };
        let engines = serving.engines(&Engines::default());
        runtime.block_on(async {
            let endpoint = Endpoint::bind(self.port, serving.roots.clone(), engines.clone(), token)
                .await
                .with_context(|| format!("port {} could not be listened on", self.port))?;
            let address = endpoint.address()?;
            // A line of its own, so that whoever starts this knows when it listens and where.
            writeln!(
                anstream::stdout(),
                "http://{address}/v1/completions and http://{address}/infill; the API key is in {}",
                file.display()
            )?;
            tokio::select! {
                () = endpoint.serve() => {}
                () = serving.follow_settings(engines, &endpoint) => {}
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            Ok::<_, anyhow::Error>(())
        })?;
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

/// What engines are made of.
struct Serving {
    settings: Current,
    roots: Vec<PathBuf>,
    log: Log,
}

impl Serving {
    /// The engines that the settings ask for, as the language server makes them; what is unchanged
    /// from `before` goes on. Learning goes on while the first questions come.
    fn engines(&self, before: &Engines) -> Engines {
        let resolved = self.settings.get();
        let directories = self.settings.directories();
        self.log
            .configure(&resolved.settings.log, directories.state.as_deref());
        for problem in &resolved.problems {
            tracing::warn!("settings: {problem}");
        }
        let (mut engines, problems) =
            before.with(Arc::new(resolved.settings.clone()), &self.roots, &[]);
        for problem in problems {
            tracing::warn!("{problem}");
        }
        if let Ok(cache) = index::cache_dir(directories)
            && let Some(index) = engines.add_index(before, &self.roots, cache)
        {
            std::thread::spawn(move || index.load());
        }
        if let Some(model) = engines.model().cloned() {
            model.warm();
            tokio::spawn(async move { model.probe().await });
        }
        engines
    }

    /// Has `endpoint` answer as the settings say whenever they change, and warns of a model that
    /// fails. Never ends.
    async fn follow_settings(&self, mut engines: Engines, endpoint: &Endpoint) {
        // No editor tells of the files in the folders.
        let of_folders = self.roots.iter().map(|root| root.join(WORKSPACE_FILE));
        let user_file = self.settings.directories().user_file();
        let mut watched = Watched::new(user_file.into_iter().chain(of_folders).collect());
        let mut settings = self.settings.watch();
        // What changed before the watch began was seen by nobody.
        self.settings.reload();
        let mut told_health = None;
        loop {
            let model = engines.model().cloned();
            let health_changed = async {
                match &model {
                    Some(model) => model.health_unlike(told_health.as_ref()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watched.changed() => self.settings.reload(),
                Ok(()) = settings.changed() => {
                    engines = self.engines(&engines);
                    endpoint.set_engines(engines.clone());
                }
                health = health_changed => {
                    if let Health::Failing { why } | Health::Paused { why, .. } = &health {
                        tracing::warn!("{why}");
                    }
                    told_health = Some(health);
                }
            }
        }
    }
}
