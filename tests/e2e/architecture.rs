//! The dependencies between parts point one way, as ARCHITECTURE.md draws them.

use std::fs;
use std::path::{Path, PathBuf};

/// A part of the server, and the parts it must not name. `lsp` and `cli` are faces: nothing below
/// knows them.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "session",
        &[
            "lsp", "cli", "complete", "edit", "index", "local", "model", "store",
        ],
    ),
    (
        "openai",
        &["lsp", "acp", "cli", "agent", "chat", "edit", "store"],
    ),
    (
        "complete",
        &["lsp", "openai", "acp", "cli", "agent", "chat", "store"],
    ),
    (
        "chat",
        &["lsp", "openai", "cli", "acp", "agent", "complete", "local"],
    ),
    (
        "models",
        &[
            "lsp", "openai", "cli", "acp", "agent", "chat", "complete", "context", "edit", "index",
            "local", "session", "store",
        ],
    ),
    (
        "agent",
        &["lsp", "openai", "acp", "cli", "complete", "local"],
    ),
    (
        "mcp",
        &[
            "lsp", "openai", "acp", "cli", "agent", "chat", "complete", "context", "edit", "index",
            "local", "session", "store",
        ],
    ),
    (
        "context",
        &["lsp", "cli", "complete", "edit", "model", "store"],
    ),
    (
        "local",
        &[
            "lsp", "cli", "complete", "context", "edit", "index", "model", "session", "store",
        ],
    ),
    (
        "model",
        &[
            "lsp", "cli", "complete", "context", "edit", "index", "local", "session", "store",
        ],
    ),
    (
        "config",
        &[
            "lsp", "cli", "complete", "context", "edit", "index", "local", "session", "store",
        ],
    ),
    (
        "edit",
        &[
            "lsp", "cli", "complete", "context", "index", "local", "model", "session",
        ],
    ),
    (
        "store",
        &[
            "lsp", "cli", "agent", "complete", "context", "edit", "index", "local", "session",
        ],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

#[test]
fn no_part_names_one_above_it() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (part, forbidden) in FORBIDDEN {
        let mut files = sources(&server.join(part));
        files.push(server.join(format!("{part}.rs")));
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for name in *forbidden {
                let used = text.contains(&format!("crate::{name}::"))
                    || text.contains(&format!("crate::{name};"));
                if used {
                    found.push(format!("{} names {name}", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_libraries_know_neither_each_other_nor_the_server_nor_its_libraries() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (library, unknown) in [
        (
            "indexer",
            &[
                "pairwright",
                "sandbox-client",
                "tower-lsp-server",
                "tokio",
                "hyper",
                "reqwest",
            ][..],
        ),
        (
            "sandbox-client",
            &["pairwright", "indexer", "tower-lsp-server"],
        ),
    ] {
        let manifest = fs::read_to_string(root.join(library).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for name in unknown {
            let named = dependencies.is_some_and(|d| d.contains_key(*name));
            assert!(!named, "{library} depends on {name}");
        }
    }
}
