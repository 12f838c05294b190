//! Language ids of the protocol and the endings of files, where one tells the other.

use std::path::Path;

/// Language id and file endings, the usual one first.
const LANGUAGES: &[(&str, &[&str])] = &[
    ("c", &["c", "h"]),
    ("cpp", &["cpp", "cc", "cxx", "hpp", "hh", "hxx"]),
    ("csharp", &["cs"]),
    ("elixir", &["ex", "exs"]),
    ("haskell", &["hs"]),
    ("javascript", &["js", "mjs", "cjs"]),
    ("javascriptreact", &["jsx"]),
    ("kotlin", &["kt", "kts"]),
    ("markdown", &["md", "markdown"]),
    ("ocaml", &["ml", "mli"]),
    ("perl", &["pl", "pm"]),
    ("python", &["py", "pyi"]),
    ("ruby", &["rb"]),
    ("rust", &["rs"]),
    ("shellscript", &["sh", "bash", "zsh"]),
    ("typescript", &["ts", "mts", "cts"]),
    ("typescriptreact", &["tsx"]),
    ("yaml", &["yaml", "yml"]),
];

/// Returns the language id of a file by its ending; an unknown ending is its own id.
pub fn of_path(path: &Path) -> String {
    let ending = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let known = LANGUAGES
        .iter()
        .find(|(_, endings)| endings.contains(&&*ending));
    known.map_or(ending, |(id, _)| (*id).to_owned())
}

/// Returns the usual ending of files in a language; an unknown id is its own ending.
pub fn ending_of(id: &str) -> &str {
    LANGUAGES
        .iter()
        .find(|(known, _)| *known == id)
        .map_or(id, |(_, endings)| endings[0])
}
