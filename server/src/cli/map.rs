//! `pairwright map`: the definitions that matter most, as a model is shown them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use indexer::{MapQuery, Tokens};

use super::index::{folder, repo_paths, settled};
use super::style;

#[derive(Debug, clap::Args)]
pub(super) struct Map {
    /// Folder to map
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Most tokens the map may take in a prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    budget: u32,
    /// Files you are working on: what matters to them is shown
    #[arg(long, value_name = "FILE", num_args = 1..)]
    focus: Vec<PathBuf>,
    /// Names or words that matter now
    #[arg(long, value_name = "WORDS", default_value = "")]
    mention: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Map {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = folder(&self.root)?;
        let focus = repo_paths(&root, &self.focus)?;
        let index = settled(&root)?;
        let map = index.reader().map(&MapQuery {
            budget: Tokens(self.budget),
            focus: &focus,
            mentioned: &self.mention,
        });
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&map)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        write!(out, "{}", map.text)?;
        let note = format!(
            "{} definitions in {} files, about {} tokens",
            map.n_definitions, map.n_files, map.tokens.0
        );
        writeln!(anstream::stderr(), "{}", style::paint(style::FAINT, note))?;
        Ok(ExitCode::SUCCESS)
    }
}
