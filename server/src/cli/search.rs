//! `pairwright search`: finds the code that a question is about.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use indexer::{FileHit, Index, Query, RepoPath};
use serde::{Deserialize, Serialize};

use super::index::{folder, repo_paths, settled};
use super::style;
use crate::shown::{count, printable};

/// Reasons shown for a file.
const REASONS: usize = 6;

#[derive(Debug, clap::Args)]
pub(super) struct Search {
    /// What to look for: prose, names, an error message, a piece of code
    #[arg(required_unless_present = "batch", conflicts_with = "batch", num_args = 1..)]
    query: Vec<String>,
    /// Folder to search
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Most files to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Say what each signal added to a file's score
    #[arg(long)]
    explain: bool,
    /// Files you are working on: what they use and what changes with them counts more
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "batch")]
    open: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long, conflicts_with = "batch")]
    json: bool,
    /// Read JSON lines {"id","query","open":[],"mentioned":[]} from stdin and write
    /// {"id","files":[{"path","score","signals"}],"ms"} for each
    #[arg(long)]
    batch: bool,
}

/// A question as `--batch` reads it.
#[derive(Debug, Deserialize)]
struct Asked {
    id: serde_json::Value,
    query: String,
    /// Relative to the root.
    #[serde(default)]
    open: Vec<PathBuf>,
    #[serde(default)]
    mentioned: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    id: serde_json::Value,
    files: Vec<Found>,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct Found {
    path: RepoPath,
    score: f32,
    /// What each signal added to the score.
    signals: BTreeMap<&'static str, f32>,
    chunks: Vec<Place>,
    hash: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    /// From 1, the last one included.
    first_line: u32,
    last_line: u32,
    symbol: Option<String>,
}

impl Search {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = folder(&self.root)?;
        let open = repo_paths(&root, &self.open)?;
        let index = settled(&root)?;
        if self.batch {
            batch(&index, &root, self.limit)?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = self.query.join(" ");
        let query = Query {
            open: &open,
            limit: self.limit,
            ..Query::new(&text)
        };
        let started = Instant::now();
        let hits = index.reader().search(&query);
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let mut out = anstream::stdout().lock();
        if self.json {
            let answer = answer(serde_json::Value::Null, &hits, ms);
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        } else if hits.is_empty() {
            writeln!(out, "nothing in {} is about this", root.display())?;
        } else {
            for hit in &hits {
                print(&mut out, hit, self.explain)?;
            }
            let files = count(index.reader().n_files(), "file");
            let note = format!("{ms:.1} ms, {files}");
            writeln!(out, "{}", style::paint(style::FAINT, note))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, hit: &FileHit, explain: bool) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        style::paint(style::TITLE, printable(hit.path.as_str()))
    )?;
    for chunk in &hit.chunks {
        let symbol = chunk.symbol.as_deref().unwrap_or_default();
        let lines = format!("{:>6}-{:<6}", chunk.first_line + 1, chunk.end_line);
        writeln!(
            out,
            "{}{}",
            style::paint(style::FAINT, lines),
            printable(symbol)
        )?;
    }
    if explain {
        for reason in hit.reasons.iter().take(REASONS) {
            let line = format!(
                "       {:+.2}  {} ({:.2})",
                reason.share, reason.signal, reason.value
            );
            writeln!(out, "{}", style::paint(style::FAINT, line))?;
        }
    }
    Ok(())
}

fn answer(id: serde_json::Value, hits: &[FileHit], ms: f64) -> Answer {
    let found = |hit: &FileHit| Found {
        path: hit.path.clone(),
        score: hit.score,
        signals: hit.reasons.iter().map(|r| (r.signal, r.share)).collect(),
        chunks: hit
            .chunks
            .iter()
            .map(|chunk| Place {
                first_line: chunk.first_line + 1,
                last_line: chunk.end_line,
                symbol: chunk.symbol.clone(),
            })
            .collect(),
        hash: hit.hash.to_string(),
    };
    Answer {
        id,
        files: hits.iter().map(found).collect(),
        ms,
    }
}

/// Answers each line of stdin with a line on stdout. A line that cannot be read is answered with
/// an error; the next ones are answered all the same.
fn batch(index: &Index, root: &Path, limit: usize) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let reader = index.reader();
    for (n, line) in io::stdin().lock().split(b'\n').enumerate() {
        let line = line.context("stdin cannot be read")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Asked>(&line) {
            Ok(asked) => {
                let open: Vec<RepoPath> = asked
                    .open
                    .iter()
                    .filter_map(|path| RepoPath::below(root, path))
                    .collect();
                let query = Query {
                    open: &open,
                    mentioned: &asked.mentioned,
                    limit,
                    ..Query::new(&asked.query)
                };
                let started = Instant::now();
                let hits = reader.search(&query);
                let ms = started.elapsed().as_secs_f64() * 1e3;
                serde_json::to_writer(&mut out, &answer(asked.id, &hits, ms))?;
            }
            Err(why) => {
                let id = serde_json::from_slice::<serde_json::Value>(&line)
                    .ok()
                    .map(|v| v["id"].clone());
                let error = format!("line {} is not a question: {why}", n + 1);
                serde_json::to_writer(&mut out, &serde_json::json!({ "id": id, "error": error }))?;
            }
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}
