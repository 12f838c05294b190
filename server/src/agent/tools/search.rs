//! `search`: the code that a question is about, by the index.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Said, bounded};
use crate::agent::desk::Desk;
use crate::edit::path::RepoPath;
use crate::edit::text::{Breaks, Text};
use crate::edit::tree::{Entry, Tree};
use crate::index::SearchParams;

pub(in crate::agent) const NAME: &str = "search";
pub(in crate::agent) const ABOUT: &str = "Finds the code a question is about, best first, by names, words and meaning. Use it before grep when you do not know what the code is called.";

const FILES: usize = 6;
/// Lines shown of one place.
const LINES: usize = 16;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// A question, names, or an error message.
    pub(in crate::agent) query: String,
}

pub(in crate::agent) fn run(desk: &Desk, arguments: &Arguments) -> Said {
    let Some(indexes) = desk.indexes() else {
        return Err("the index is switched off; use grep and list".into());
    };
    let params = SearchParams {
        query: arguments.query.clone(),
        mentioned: Vec::new(),
        limit: Some(FILES),
    };
    let mut text = String::new();
    for found in indexes.search(&params, &[], None) {
        let Ok(path) = RepoPath::parse(found.hit.path.as_str()) else {
            continue;
        };
        let is_here = indexes.is_same(&found.root, desk.indexed());
        if !is_here || desk.may_read(&path).is_err() {
            continue;
        }
        let Ok(Some(Entry::File { bytes, .. })) = desk.view_of_many().read(&path) else {
            continue;
        };
        let Ok(content) = Text::decode(bytes, Breaks::Lf) else {
            continue;
        };
        for chunk in &found.hit.chunks {
            let (first, end) = (chunk.first_line as usize, chunk.end_line as usize);
            let symbol = chunk.symbol.as_deref().unwrap_or_default();
            text.push_str(&format!("{path}:{}-{end} {symbol}\n", first + 1));
            let n_shown = end.saturating_sub(first).min(LINES);
            for line in content.lines().skip(first).take(n_shown) {
                text.push_str("    ");
                text.extend(line.chars().take(200));
                text.push('\n');
            }
        }
    }
    match text.is_empty() {
        true => Ok("nothing was found".into()),
        false => Ok(bounded(text)),
    }
}
