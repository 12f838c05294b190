use std::{collections::BTreeSet, path::Path, sync::LazyLock, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    CursorQuery, Index, MapQuery, Options, Watching, path::Tokens, update::tests::Workspace,
};

const FILES: &[(&str, &str)] = &[
    (
        "src/retry.py",
        "def backoff_delay(attempt, ceiling):\n    \"\"\"Seconds to wait before the next attempt.\"\"\"\n    return min(2 ** attempt, ceiling)\n",
    ),
    (
        "src/http_client.go",
        "package client\n\n// Fetch asks a server for a document.\nfunc Fetch(url string) error { return nil }\n",
    ),
    (
        "web/colour.ts",
        "export class ColourMixer {\n  /** Mixes two paints. */\n  blend(left: number, right: number) { return left + right }\n}\n",
    ),
    (
        "tests/test_retry.py",
        "from retry import backoff_delay\n\ndef test_backoff_delay():\n    assert backoff_delay(1, 9) == 2\n",
    ),
    ("notes.txt", "The harbour opens at seven.\n"),
    ("broken.rs", "fn ((({ half_written"),
];

static READER: LazyLock<(Workspace, Reader)> = LazyLock::new(|| {
    let workspace = Workspace::new(FILES);
    let reader = workspace.settled().reader();
    (workspace, reader)
});

#[test]
fn a_question_finds_its_file_by_name_symbol_comment_part_of_a_word_and_text() {
    let reader = &READER.1;
    for (question, path, symbol) in [
        ("backoff_delay", "src/retry.py", Some("backoff_delay")),
        (
            "wait before another attempt",
            "src/retry.py",
            Some("backoff_delay"),
        ),
        ("delay ceiling", "src/retry.py", Some("backoff_delay")),
        (
            "fetch document from server",
            "src/http_client.go",
            Some("Fetch"),
        ),
        ("http client", "src/http_client.go", Some("Fetch")),
        ("colour mixer", "web/colour.ts", Some("ColourMixer")),
        ("mixing paints", "web/colour.ts", Some("ColourMixer")),
        ("when does the harbour open", "notes.txt", None),
        ("half_written", "broken.rs", None),
    ] {
        let hits = reader.search(&Query::new(question));
        let best = hits.first().map(|hit| hit.path.as_str());
        assert_eq!(best, Some(path), "{question}: {hits:#?}");
        let symbols: BTreeSet<_> = hits[0].chunks.iter().map(|c| c.symbol.as_deref()).collect();
        assert!(symbols.contains(&symbol), "{question}: {symbols:?}");
    }
}

#[test]
fn what_is_explained_adds_up_to_falling_scores() {
    let hits = READER.1.search(&Query::new("backoff_delay"));
    assert!(hits.len() > 2 && hits.is_sorted_by(|a, b| a.score >= b.score));
    let unexplained = |hit: &FileHit| hit.score - hit.reasons.iter().map(|r| r.share).sum::<f32>();
    for hit in &hits {
        assert!(
            hit.reasons.is_sorted_by(|a, b| a.share >= b.share),
            "{hit:?}"
        );
        // What every file starts with, and shares too small to tell.
        assert!(
            (unexplained(hit) - unexplained(&hits[0])).abs() < 0.2,
            "{hit:?}"
        );
    }
}

#[test]
fn a_pack_keeps_its_budget_and_shows_what_is_in_the_file() {
    let reader = &READER.1;
    for budget in [0, 10, 40, 100, 1_000] {
        let snippets = reader.pack(
            &Query::new("backoff_delay of the http client"),
            Tokens(budget),
        );
        let spent: u32 = snippets.iter().map(|s| Tokens::estimate(&s.text).0).sum();
        assert!(spent <= budget, "{budget}: {snippets:?}");
        assert_eq!(snippets.is_empty(), budget < 40, "{budget}: {snippets:?}");
        for snippet in snippets {
            let (_, text) = FILES
                .iter()
                .find(|(name, _)| *name == snippet.path.as_str())
                .unwrap();
            assert!(text.contains(snippet.text.trim()), "{snippet:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_question_and_no_cursor_is_too_strange(
        text in "(\\PC|[\\x00-\\x20]|_|backoff_delay|«){0,200}", cursor in 0..800_usize, budget in 0..200_u32,
    ) {
        let reader = &READER.1;
        let open = [RepoPath::from("src/retry.py"), RepoPath::from(text.as_str())];
        let mentioned = [text.clone(), String::new()];
        let query = Query { open: &open, mentioned: &mentioned, ..Query::new(&text) };
        prop_assert!(reader.search(&query).len() <= query.limit);
        for path in &open {
            let snippets = reader.near_cursor(&CursorQuery {
                path, text: &text, cursor, limit: 4, budget: Tokens(budget), until: None,
            });
            prop_assert!(snippets.len() <= 4);
        }
        let map = reader.map(&MapQuery { budget: Tokens(budget), focus: &open, mentioned: &text });
        prop_assert!(map.tokens <= Tokens(budget));
    }
}

/// Questions about this repository in words of a newcomer, and the files that answer them.
const ABOUT_US: &[(&str, &[&str])] = &[
    (
        "where is the rank flow between files computed",
        &["indexer/src/graph.rs", "indexer/src/graph/map.rs"],
    ),
    (
        "which files are skipped because they are generated or minified",
        &["indexer/src/walk/class.rs"],
    ),
    (
        "watch the file system for changes",
        &["indexer/src/walk/watch.rs"],
    ),
    (
        "split camelCase words into terms",
        &["indexer/src/text/analyse.rs"],
    ),
    (
        "append-only log of units with checksums",
        &["indexer/src/store/log.rs"],
    ),
    (
        "commits that change files together",
        &["indexer/src/repo/history.rs"],
    ),
    (
        "what a completion at the cursor should see of other files",
        &["indexer/src/context.rs"],
    ),
    ("BM25 score of chunks", &["indexer/src/text/score.rs"]),
    ("hide secrets from logs", &["server/src/secret.rs"]),
    (
        "read settings from the workspace and environment",
        &["server/src/config.rs", "server/src/config/sources.rs"],
    ),
    (
        "draw the progress bar of indexing",
        &["server/src/cli/index.rs"],
    ),
    ("pairwright doctor checks", &["server/src/cli/doctor.rs"]),
    ("roll back an applied edit", &["server/src/cli/rollback.rs"]),
    (
        "fit the ranker with lightgbm",
        &["benches/retrieval/fit_ranker.py"],
    ),
];

/// The tables of quality are in `benches/retrieval`; this holds that nothing fell off a cliff.
#[test]
fn questions_about_this_repository_are_answered_by_the_right_files() {
    let cache = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let index = Index::open(Options {
        watch: Watching::Off,
        ..Options::new(root, cache.path())
    });
    let index = index.unwrap();
    assert!(index.wait_until_settled(std::time::Instant::now() + Duration::from_secs(120)));
    let reader = index.reader();
    let mut missed = Vec::new();
    let mut reciprocal = 0.0;
    for (question, answers) in ABOUT_US {
        let hits = reader.search(&Query::new(question));
        let place = hits
            .iter()
            .position(|hit| answers.contains(&hit.path.as_str()));
        reciprocal += place.map_or(0.0, |place| 1.0 / (1.0 + place as f64));
        if place.is_none_or(|place| place >= 5) {
            let found: Vec<_> = hits.iter().map(|hit| hit.path.to_string()).collect();
            missed.push((question, place, found));
        }
    }
    let mrr = reciprocal / ABOUT_US.len() as f64;
    assert!(
        missed.len() <= 3 && mrr >= 0.55,
        "reciprocal rank {mrr:.2}, missed {missed:#?}"
    );
}
