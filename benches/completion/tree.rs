//! Source trees, and what of them is held out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pairwright::local::{DEFAULT_MEMORY, Engine, Settings, Weights};
use rustix::time::{ClockId, clock_gettime};

use crate::random;

const CODE: &[&str] = &[
    "rs", "py", "js", "jsx", "mjs", "cjs", "ts", "tsx", "go", "c", "h", "cc", "cpp", "cxx", "hpp",
    "hh", "hxx", "java", "kt", "rb", "php", "cs", "swift", "scala", "m", "mm", "lua",
];

const SKIPPED_FOLDERS: &[&str] = &[
    "deps",
    "vendor",
    "node_modules",
    "third_party",
    "dist",
    "build",
    "fixture",
    "fixtures",
    "testdata",
    ".git",
    ".pc",
    "debian",
    "extern",
];

const SKIPPED_NAMES: &[&str] = &[
    ".min.js",
    ".d.ts",
    ".d.mts",
    ".d.cts",
    "_generated.",
    ".pb.",
    "parser.c",
    "lexer.c",
    "lexer.h",
    "parser.h",
    "jv_dtoa",
    "decNumber",
];

/// A source tree with its files of code.
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<SourceFile>,
}

pub(crate) struct SourceFile {
    /// Path within the tree.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    /// Reads the files of code under `root` that a person wrote.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        collect(root, root, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let name = root
            .file_name()
            .context("a tree needs a name")?
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            root: root.to_owned(),
            files,
        })
    }

    /// Returns the files that are held out: the first by hash of their path, until they are
    /// `1 / share` of all files and of all lines.
    pub(crate) fn held_out(&self, share: usize) -> Vec<&SourceFile> {
        let n_lines: usize = self
            .files
            .iter()
            .map(|file| file.text.lines().count())
            .sum();
        let mut ranked: Vec<&SourceFile> = self.files.iter().collect();
        ranked.sort_by_key(|file| random::hash(&file.path));
        let mut n_held = 0;
        let mut held = Vec::new();
        for file in ranked {
            if held.len() * share >= self.files.len() && n_held * share >= n_lines {
                break;
            }
            n_held += file.text.lines().count();
            held.push(file);
        }
        held
    }

    /// Learns everything but `held`; returns also the CPU time that took.
    pub(crate) fn learn(
        &self,
        held: &[&SourceFile],
        weights: Arc<Weights>,
    ) -> anyhow::Result<(Engine, Duration)> {
        let exclude = held
            .iter()
            .map(|file| globset::escape(&file.path))
            .collect();
        let settings = Settings {
            roots: vec![self.root.clone()],
            exclude,
            memory: DEFAULT_MEMORY,
        };
        let start = cpu(ClockId::ProcessCPUTime);
        let engine = Engine::with_weights(settings, weights)?;
        ensure!(
            engine.wait_learnt(Instant::now() + Duration::from_secs(600)),
            "learning {} took too long",
            self.name
        );
        Ok((engine, cpu(ClockId::ProcessCPUTime) - start))
    }
}

/// Returns the CPU time spent so far.
pub(crate) fn cpu(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?
    {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) && !name.starts_with('.') {
            collect(root, &path, files)?;
        } else if kind.is_file()
            && is_code(&path)
            && !SKIPPED_NAMES.iter().any(|part| name.contains(part))
        {
            let Some(text) = text_of(std::fs::read(&path)?) else {
                continue;
            };
            let within = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.push(SourceFile { path: within, text });
        }
    }
    Ok(())
}

fn is_code(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| CODE.iter().any(|code| extension == *code))
}

fn text_of(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?.replace("\r\n", "\n");
    let is_written = text.len() <= 400_000 && text.len() / text.split('\n').count() <= 120;
    let is_generated = text.lines().take(20).any(|line| {
        ["DO NOT EDIT", "@generated", "Code generated by"]
            .iter()
            .any(|sign| line.contains(sign))
    });
    (is_written && !is_generated).then_some(text)
}
