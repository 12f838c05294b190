//! The command line: parse, call, print.
//!
//! Holds: results go to stdout, as text or with `--json` for programs; everything else goes to
//! stderr. Exit codes: 0 done, 1 failed, broken off or problems found, 2 wrong usage.

mod apply;
mod audit;
mod chat;
mod complete;
mod doctor;
mod edits;
mod index;
mod man;
mod map;
mod metrics;
mod rollback;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod sandboxd;
mod search;
mod serve;
mod serve_completions;
mod task;
mod tour;
mod trust;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::error::UserError;

/// An AI pair programmer as one language server: ghost text in any editor, at once, with no
/// account, no key and no network.
#[derive(Debug, Parser)]
#[command(name = "pairwright", version, about, long_about = None, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Without a command, pairwright is the language server when its input is a pipe, as editors start \
it, and shows this help in a terminal.

Settings: ~/.config/pairwright/config.toml, the editor's settings, or environment variables such \
as PAIRWRIGHT_MODELS_COMPLETE_URL. `pairwright doctor` shows which are in force.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the language server on stdin and stdout
    Lsp(serve::Lsp),
    /// Answer editors that ask an OpenAI-compatible server for completions, on this machine alone
    ServeCompletions(serve_completions::ServeCompletions),
    /// Speak the Agent Client Protocol on stdin and stdout, for panels of editors
    Acp(serve::Acp),
    /// See it work on real code: drives the server as an editor would and shows what comes back
    Tour(tour::Tour),
    /// Complete at positions of files, for scripts and evaluation
    Complete(complete::Complete),
    /// Ask about a repository; without a model, search answers
    Chat(chat::ChatCommand),
    /// Find the code that a question is about
    Search(search::Search),
    /// Show the definitions that matter most, as a model is shown them
    Map(map::Map),
    /// Index a folder, or say what is in its index
    Index(index::IndexCommand),
    /// Preview the edits of a model's answer, or do them
    Apply(apply::Apply),
    /// Take back an edit by its token, and nothing else
    Rollback(rollback::Rollback),
    /// Let a model carry out a task, with tools in a sandbox; you decide about its hunks
    Task(task::TaskCommand),
    /// Say that you trust a folder: its settings are read, and tasks may run what it holds
    Trust(trust::TrustCommand),
    /// Show, check or export what tasks and chats did
    Audit(audit::Audit),
    /// Count what became of chats, tasks and edits
    Metrics(metrics::MetricsCommand),
    /// List the edits that were made, and whether they stand
    Edits(edits::Edits),
    /// Check settings, model endpoint and engine, with the next step for each problem
    Doctor(doctor::Doctor),
    /// Run a command in a sandbox of this machine
    #[cfg(target_os = "linux")]
    Sandbox(sandbox::SandboxCommand),
    /// Serve sandboxes to other programs, by E2B's protocol
    #[cfg(target_os = "linux")]
    Sandboxd(sandboxd::Sandboxd),
    /// Say why there are no sandboxes of this machine
    #[cfg(not(target_os = "linux"))]
    #[command(alias = "sandboxd")]
    Sandbox {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands to a folder
    #[command(hide = true)]
    Man(man::Man),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    // Before anything else: a process with threads cannot become a sandbox.
    if let Some(code) = sandbox_agent::main_if_asked(std::env::args_os().skip(1)) {
        return code;
    }
    let arguments = Arguments::parse();
    let command = match arguments.command {
        Some(command) => command,
        None if io::stdin().is_terminal() => {
            let _ = Arguments::command().print_help();
            return ExitCode::SUCCESS;
        }
        None => Command::Lsp(serve::Lsp::default()),
    };
    let outcome = match command {
        Command::Lsp(lsp) => lsp.run(),
        Command::ServeCompletions(serve) => serve.run(),
        Command::Acp(acp) => acp.run(),
        Command::Tour(tour) => tour.run(),
        Command::Complete(complete) => complete.run(),
        Command::Chat(chat) => chat.run(),
        Command::Search(search) => search.run(),
        Command::Map(map) => map.run(),
        Command::Index(index) => index.run(),
        Command::Apply(apply) => apply.run(),
        Command::Rollback(rollback) => rollback.run(),
        Command::Edits(edits) => edits.run(),
        Command::Task(task) => task.run(),
        Command::Trust(trust) => trust.run(),
        Command::Audit(audit) => audit.run(),
        Command::Metrics(metrics) => metrics.run(),
        Command::Doctor(doctor) => doctor.run(),
        #[cfg(target_os = "linux")]
        Command::Sandbox(sandbox) => sandbox.run(),
        #[cfg(target_os = "linux")]
        Command::Sandboxd(sandboxd) => sandboxd.run(),
        #[cfg(not(target_os = "linux"))]
        Command::Sandbox { .. } => Err(crate::sandbox::nowhere().into()),
        Command::Man(man) => man.run(Arguments::command()),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "pairwright",
                &mut io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        // Nobody is there to read why; what was to be done may be half done.
        if is_broken_pipe(&error) {
            return ExitCode::FAILURE;
        }
        let said = match error.downcast_ref::<UserError>() {
            Some(UserError {
                message,
                hint: Some(hint),
                ..
            }) => format!("{message}\n{hint}"),
            _ => format!("{error:#}"),
        };
        let _ = writeln!(
            anstream::stderr().lock(),
            "{}error:{} {said}",
            style::BAD,
            style::BAD.render_reset()
        );
        ExitCode::FAILURE
    })
}

/// Whether output ended because its reader did, as with `| head`. A pipe to something else that
/// broke says so by its context.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let Some(outermost) = error.chain().next() else {
        return false;
    };
    let of_json = outermost.downcast_ref::<serde_json::Error>();
    let kind = match outermost.downcast_ref::<io::Error>() {
        Some(error) => Some(error.kind()),
        None => of_json.and_then(serde_json::Error::io_error_kind),
    };
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// The runtime for timers and connections. Two threads carry a whole editor session.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// How things are shown in a terminal; `anstream` leaves it out elsewhere.
mod style {
    pub(super) use crate::shown::harmless;
    use anstyle::{AnsiColor, Style};

    pub(super) const TITLE: Style = Style::new().bold();
    pub(super) const FAINT: Style = AnsiColor::BrightBlack.on_default();
    pub(super) const GOOD: Style = AnsiColor::Green.on_default();
    pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
    pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
    pub(super) const PLAIN: Style = Style::new();
    pub(super) const REMOVED: Style = AnsiColor::Red.on_default();
    /// Suggested text.
    pub(super) const GHOST: Style = AnsiColor::Cyan.on_default().italic();

    /// Paints `text`.
    pub(super) fn paint(style: Style, text: impl std::fmt::Display) -> String {
        format!("{style}{text}{}", style.render_reset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_what_broke_below_our_own_output_is_not_told() {
        use anyhow::Context as _;
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&broken().into()));
        let of_json = serde_json::Error::io(broken());
        assert!(is_broken_pipe(&of_json.into()));
        let elsewhere = Err::<(), _>(broken()).context("the server does not read");
        assert!(!is_broken_pipe(&elsewhere.unwrap_err()));
        assert!(!is_broken_pipe(&anyhow::anyhow!("another")));
    }
}
