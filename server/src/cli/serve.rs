//! `pairwright lsp` and `pairwright acp`: the two protocols spoken on stdin and stdout.

use std::io::{BufReader, stdin, stdout};
use std::process::ExitCode;

use crate::acp;
use crate::config::current::Current;
use crate::config::sources::Directories;
use crate::log::Log;
use crate::lsp::{self, Start};

#[derive(Debug, Default, clap::Args)]
pub(super) struct Lsp {
    /// Files the embedded engine must not learn from, as globs
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    exclude: Vec<String>,
    /// Accepted for clients that always pass it; stdin and stdout are used in any case
    #[arg(long, hide = true)]
    stdio: bool,
}

impl Lsp {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (log, lines) = Log::start();
        let runtime = super::runtime()?;
        let start = Start {
            settings: Current::load(Directories::find()),
            log,
            lines,
            exclude: self.exclude,
        };
        let input = BufReader::with_capacity(64 << 10, stdin());
        let ending = lsp::serve(start, input, stdout(), runtime.handle());
        tracing::info!(?ending, "the client left");
        // What still runs in the background has nobody left to work for.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct Acp {}

impl Acp {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (log, mut lines) = Log::start();
        let settings = Current::load(Directories::find());
        let resolved = settings.get();
        let state = settings.directories().state.clone();
        log.configure(&resolved.settings.log, state.as_deref());
        let runtime = super::runtime()?;
        // The protocol has no place for a log.
        runtime.spawn(async move { while lines.recv().await.is_some() {} });
        let input = BufReader::with_capacity(64 << 10, stdin());
        acp::serve(settings, input, stdout(), runtime.handle());
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }
}
