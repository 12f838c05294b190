//! Answers the benchmark's questions about one working tree: JSON lines in, JSON lines out.
//!
//! `cargo run --release -p indexer --example serve -- ROOT CACHE`
//!
//! `{"op":"sync"}` waits until the tree as it is now is indexed. `{"op":"candidates","text":…}`
//! gives every candidate file with its signals, `{"op":"search","text":…,"limit":n}` files in
//! order, `{"op":"cursor","path":…,"text":…,"cursor":n,"limit":n}` files for a completion, `{"op":"definers","names":[…]}` who defines what, `{"op":"signals"}`
//! what the signals are called.

use std::{
    io::{self, BufRead, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use indexer::{CursorQuery, Index, Options, Query, RepoPath, Tokens, Watching, signal_names};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Sync,
    Signals,
    Candidates {
        text: String,
    },
    Search {
        text: String,
        limit: usize,
    },
    Cursor {
        path: String,
        text: String,
        cursor: usize,
        limit: usize,
    },
    Definers {
        names: Vec<String>,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(root), Some(cache)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve ROOT CACHE".into());
    };
    let index = Index::open(Options {
        watch: Watching::Off,
        ..Options::new(root, cache)
    })?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let answer = answer(&index, serde_json::from_str(&line?)?);
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(index: &Index, request: Request) -> Value {
    let reader = index.reader();
    match request {
        Request::Sync => {
            index.rescan();
            let settled = index.wait_until_settled(Instant::now() + Duration::from_secs(600));
            json!({ "settled": settled, "status": index.status() })
        }
        Request::Signals => json!(signal_names().as_slice()),
        Request::Candidates { text } => json!(reader.candidates(&Query::new(&text))),
        Request::Search { text, limit } => {
            let started = Instant::now();
            let hits = reader.search(&Query {
                limit,
                ..Query::new(&text)
            });
            let ms = started.elapsed().as_secs_f64() * 1e3;
            let files: Vec<_> = hits
                .iter()
                .map(|hit| json!([hit.path, hit.score]))
                .collect();
            json!({ "files": files, "ms": ms })
        }
        Request::Cursor {
            path,
            text,
            cursor,
            limit,
        } => {
            let path = RepoPath::from(path);
            let started = Instant::now();
            let query = CursorQuery {
                path: &path,
                text: &text,
                cursor,
                limit,
                budget: Tokens(1_024),
                until: None,
            };
            let files: Vec<_> = reader
                .files_near(&query)
                .into_iter()
                .map(|near| near.path)
                .collect();
            let near_ms = started.elapsed().as_secs_f64() * 1e3;
            let started = Instant::now();
            let snippets = reader.near_cursor(&query).len();
            let ms = started.elapsed().as_secs_f64() * 1e3;
            json!({
                "files": files,
                "near_ms": near_ms,
                "snippets": snippets,
                "ms": ms,
            })
        }
        Request::Definers { names } => {
            let files = |name: &String| {
                let found = reader.definitions_of(name).into_iter();
                let mut paths: Vec<_> = found.map(|(path, _, _)| path).collect();
                paths.dedup();
                (name.clone(), json!(paths))
            };
            Value::Object(names.iter().map(files).collect())
        }
    }
}
