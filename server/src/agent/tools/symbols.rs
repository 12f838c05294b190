//! `symbols`: where a name is defined and where it is used, by the index.
//!
//! Holds: files are those that the index knows the name of and those that the task changed; lines
//! are those of the files as the task has them.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Said, bounded, shown_text};
use crate::agent::desk::Desk;
use crate::edit::path::RepoPath;

pub(in crate::agent) const NAME: &str = "symbols";
pub(in crate::agent) const ABOUT: &str = "Lists where a name is defined, and the lines that have it in all files whose code uses it. Use it before you change what others call.";

const DEFINITIONS: usize = 40;
const USES: usize = 200;
/// Characters shown of a line.
const WIDTH: usize = 200;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// One name, as the code writes it. Of `a::b` and `a.b` the last part counts.
    pub(in crate::agent) name: String,
}

pub(in crate::agent) fn run(desk: &Desk, arguments: &Arguments) -> Said {
    let Some(indexes) = desk.indexes() else {
        return Err("the index is switched off; use grep".into());
    };
    let name = arguments.name.trim();
    let name = name.rsplit([':', '.', '#']).next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("that is no name; use search for questions and grep for text".into());
    }
    let word = word(name).map_err(|why| format!("that is no name: {why}"))?;
    let named = indexes.named(desk.indexed(), name);
    let mut files: BTreeSet<RepoPath> = BTreeSet::new();
    let known = named.definitions.iter().map(|(path, _)| path);
    for path in known.chain(&named.files) {
        files.extend(RepoPath::parse(path.as_str()));
    }
    files.extend(desk.proposed().files().map(|(path, _)| path.clone()));

    let view = desk.view_of_many();
    let (mut defined, mut used) = (Listed::new(DEFINITIONS), Listed::new(USES));
    for path in files {
        let Some(text) = shown_text(desk, &view, &path) else {
            continue;
        };
        let with_name = text.lines().enumerate();
        let mut lines: BTreeMap<usize, &str> =
            with_name.filter(|(_, line)| word.is_match(line)).collect();
        let of_file = |(of, _): &&(indexer::RepoPath, _)| of.as_str() == path.as_str();
        for (_, definition) in named.definitions.iter().filter(of_file) {
            // The file may have other lines by now than when it was indexed.
            let at = definition.name_line as usize;
            let nearest = lines.keys().copied().min_by_key(|idx| idx.abs_diff(at));
            let Some((idx, line)) = nearest.and_then(|idx| lines.remove_entry(&idx)) else {
                continue;
            };
            let kind = format!("{:?}", definition.kind).to_lowercase();
            defined.add(|| format!("{path}:{}: {kind}: {}", idx + 1, shown(line)));
        }
        for (idx, line) in lines {
            used.add(|| format!("{path}:{}: {}", idx + 1, shown(line)));
        }
    }
    if defined.n_found + used.n_found == 0 {
        return Ok(format!("no code here has the name {name}"));
    }
    let text = format!("defined:\n{}used:\n{}", defined.text(), used.text());
    Ok(bounded(text))
}

/// Lines of an answer, up to a number of them.
struct Listed {
    lines: String,
    n_found: usize,
    most: usize,
}

impl Listed {
    fn new(most: usize) -> Self {
        Self {
            lines: String::new(),
            n_found: 0,
            most,
        }
    }

    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.n_found < self.most {
            self.lines.push_str(&line());
            self.lines.push('\n');
        }
        self.n_found += 1;
    }

    fn text(self) -> String {
        match self.n_found.checked_sub(self.most) {
            _ if self.n_found == 0 => "nowhere that is indexed\n".into(),
            Some(n_more @ 1..) => {
                format!(
                    "{}[{n_more} lines more; grep finds them below a path]\n",
                    self.lines
                )
            }
            _ => self.lines,
        }
    }
}

/// What matches a name where it is a word of its own.
fn word(name: &str) -> Result<Regex, regex::Error> {
    let edge = |c: Option<char>| match c {
        Some(c) if c.is_alphanumeric() || c == '_' => r"\b",
        _ => "",
    };
    let (before, after) = (edge(name.chars().next()), edge(name.chars().next_back()));
    Regex::new(&format!("{before}{}{after}", regex::escape(name)))
}

fn shown(line: &str) -> String {
    line.trim().chars().take(WIDTH).collect()
}
