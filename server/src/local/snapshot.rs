//! What has been learnt, as readers see it: frozen, shared, replaced as a whole.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::open_text::OpenText;
use super::segment::{Segment, Span};
use super::vocabulary::{Frame, Vocabulary};

/// The language of a file, as far as learning goes: files of one language are learnt together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Language(Box<str>);

impl Language {
    /// Tells the language by the extension; a file without one stands for itself.
    pub(crate) fn of(path: &Path) -> Self {
        let extension = path
            .extension()
            .or(path.file_name())
            .and_then(|part| part.to_str())
            .unwrap_or_default();
        let lower = extension.to_ascii_lowercase();
        let family = match lower.as_str() {
            "h" | "c" | "cc" | "cpp" | "cxx" | "c++" | "hpp" | "hh" | "hxx" | "h++" | "inl"
            | "ipp" | "tpp" | "m" | "mm" | "cu" | "cuh" | "ino" => "c",
            "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "cts" | "vue" | "svelte"
            | "astro" => "js",
            "py" | "pyi" | "pyx" | "pxd" | "pyw" => "py",
            "java" | "jav" => "java",
            "kt" | "kts" => "kt",
            "rb" | "rake" | "gemspec" | "ru" => "rb",
            "php" | "phtml" | "inc" => "php",
            "sh" | "bash" | "zsh" | "ksh" => "sh",
            "ex" | "exs" => "ex",
            "erl" | "hrl" => "erl",
            "ml" | "mli" => "ml",
            "fs" | "fsi" | "fsx" => "fs",
            "scala" | "sc" | "sbt" => "scala",
            "clj" | "cljs" | "cljc" | "edn" => "clj",
            "pl" | "pm" | "t" => "pl",
            "yml" | "yaml" => "yaml",
            "htm" | "html" | "xhtml" | "hbs" | "ejs" => "html",
            "css" | "scss" | "sass" | "less" => "css",
            "f" | "f90" | "f95" | "f03" | "f08" | "for" => "f90",
            "v" | "sv" | "svh" | "vh" => "v",
            "tf" | "hcl" => "hcl",
            other => other,
        };
        Self(family.into())
    }
}

impl Language {
    /// Returns the number by which the weights know the language; 0 for those they do not.
    pub(crate) fn number(&self) -> usize {
        const KNOWN: [&str; 10] = ["c", "js", "py", "rs", "go", "java", "rb", "php", "cs", "kt"];
        KNOWN
            .iter()
            .position(|known| **known == *self.0)
            .map_or(0, |at| at + 1)
    }
}

/// Everything learnt so far.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) shards: FxHashMap<Language, Arc<Shard>>,
    /// Used for a language of which nothing was learnt.
    pub(crate) unlearnt: Arc<Shard>,
    pub(crate) open: FxHashMap<Arc<Path>, OpenBuffer>,
}

/// Tokens of an open buffer.
#[derive(Debug, Clone)]
pub(crate) struct OpenBuffer {
    pub(crate) language: Language,
    pub(crate) text: Arc<OpenText>,
}

/// What was learnt of one language.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    pub(crate) frame: Arc<Frame>,
    pub(crate) segments: Vec<Arc<Segment>>,
    /// For each segment, what is no longer true of it.
    pub(crate) hidden: Vec<Arc<[Span]>>,
    /// Where the current text of each file is: segment and file within it.
    pub(crate) files: FxHashMap<Arc<Path>, (usize, usize)>,
}

impl Shard {
    pub(crate) fn empty(frame: Arc<Frame>) -> Self {
        Self {
            frame,
            segments: Vec::new(),
            hidden: Vec::new(),
            files: FxHashMap::default(),
        }
    }

    /// Returns what must be hidden of each segment when the texts of `paths` come from elsewhere.
    pub(crate) fn hidden_without<'p>(
        &self,
        paths: impl Iterator<Item = &'p Path>,
    ) -> Vec<Arc<[Span]>> {
        let mut hidden = self.hidden.clone();
        for path in paths {
            if let Some((segment, file)) = self.files.get(path) {
                let mut spans = hidden[*segment].to_vec();
                spans.push(self.segments[*segment].span(*file));
                spans.sort_unstable();
                hidden[*segment] = spans.into();
            }
        }
        hidden
    }
}
