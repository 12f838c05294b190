//! `list`: the files of a folder, as the task has them.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Said, bounded, path};
use crate::agent::desk::Desk;

pub(in crate::agent) const NAME: &str = "list";
pub(in crate::agent) const ABOUT: &str =
    "Lists files of the folder or of one below it. What git ignores is left out.";

const MOST: usize = 500;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    /// Folder to list; the whole one when not given.
    #[serde(default)]
    pub(in crate::agent) path: Option<String>,
    /// How many levels down; 2 when not given.
    #[serde(default)]
    pub(in crate::agent) depth: Option<usize>,
}

pub(in crate::agent) fn run(desk: &Desk, arguments: &Arguments) -> Said {
    let below = match &arguments.path {
        Some(text) => path(text, desk.root())?,
        None => None,
    };
    let depth = arguments.depth.unwrap_or(2).clamp(1, 20);
    let mut names = BTreeSet::new();
    let mut is_cut = false;
    for file in desk.files(below.as_ref())? {
        let rest = match &below {
            Some(folder) => file.as_str()[folder.as_str().len()..].trim_start_matches('/'),
            None => file.as_str(),
        };
        let mut parts = rest.split('/');
        let shown: Vec<&str> = parts.by_ref().take(depth).collect();
        let is_folder = parts.next().is_some();
        if names.len() == MOST {
            is_cut = true;
            break;
        }
        names.insert(format!(
            "{}{}",
            shown.join("/"),
            if is_folder { "/" } else { "" }
        ));
    }
    if names.is_empty() {
        return Err("there are no files there".into());
    }
    let mut text: String = names.into_iter().map(|name| name + "\n").collect();
    if is_cut {
        text.push_str("[there are more; list a folder below]\n");
    }
    Ok(bounded(text))
}
