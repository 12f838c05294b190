//! An argument that a call or a definition gained or lost, and the calls that are still to follow.

use std::ops::Range;

use super::{is_a_name, is_name, words};

/// Longest list of arguments that is looked at, in characters.
const MAX_LIST: usize = 2000;
/// Longest text in single quotes; after that a quote is taken for a lifetime or an apostrophe.
const MAX_QUOTED: usize = 80;
/// Words before a name that make it a definition.
const DEFINING: [&str; 6] = ["fn", "def", "func", "function", "fun", "sub"];

/// A change to the arguments of one function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Argument {
    pub function: String,
    /// How many arguments there were.
    pub before: usize,
    /// Where one came or went.
    pub index: usize,
    /// What was added; `None` when one was taken away.
    pub added: Option<String>,
    /// Whether it was the definition that changed.
    pub is_of_definition: bool,
}

/// A list of arguments in parentheses.
struct List<'a> {
    function: &'a str,
    /// Whether it belongs to the function's definition.
    defines: bool,
    /// Each argument, without the white space around it.
    arguments: Vec<Range<usize>>,
    /// Between the parentheses.
    inside: Range<usize>,
}

/// Returns what happened to the list of arguments around byte `at`, up to which the lines are the
/// same, when one argument came or went and the others stayed.
pub(super) fn changed(old: &str, new: &str, at: usize) -> Option<Argument> {
    let (was, now) = (around(old, at)?, around(new, at)?);
    if was.inside.start != now.inside.start {
        return None;
    }
    let texts = |line: &str, list: &List<'_>| -> Vec<String> {
        let texts = list.arguments.iter();
        texts.map(|range| line[range.clone()].to_owned()).collect()
    };
    let (old, new) = (texts(old, &was), texts(new, &now));
    let index = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let argument = |added: Option<&str>| Argument {
        function: was.function.to_owned(),
        before: old.len(),
        index,
        added: added.map(str::to_owned),
        is_of_definition: now.defines,
    };
    if new.len() == old.len() + 1 && new[index + 1..] == old[index..] {
        let added = match now.defines {
            true => parameter(&new[index])?,
            false => &new[index],
        };
        return Some(argument(Some(added)));
    }
    (new.len() + 1 == old.len() && new[index..] == old[index + 1..]).then(|| argument(None))
}

/// The name of a parameter without its type. `None` where calls need not pass it: it has a
/// default, or takes what is left.
fn parameter(text: &str) -> Option<&str> {
    if text.contains('=') || text.starts_with(['*', '&', '.']) {
        return None;
    }
    let name = match text.split_once(':') {
        Some((name, _)) => name.trim().trim_start_matches("mut ").trim_end_matches('?'),
        // `Type name`, or a name alone.
        None => text.rsplit(|c: char| !is_name(c)).next()?,
    };
    is_a_name(name).then_some(name)
}

/// The innermost list of arguments around byte `at` of a line.
fn around(line: &str, at: usize) -> Option<List<'_>> {
    let mut depth = 0_usize;
    let mut before = line.get(..at)?.char_indices().rev();
    let (open, _) = before.find(|(_, c)| match c {
        ')' | ']' | '}' => {
            depth += 1;
            false
        }
        '(' | '[' | '{' if depth > 0 => {
            depth -= 1;
            false
        }
        c => *c == '(',
    })?;
    list(line, open)
}

/// Reads the list of arguments that opens at byte `open`; `None` when it is none of a function,
/// or does not close.
fn list(text: &str, open: usize) -> Option<List<'_>> {
    let head = &text[..open];
    let (before, function) = head.split_at(head.trim_end_matches(is_name).len());
    if !is_a_name(function) {
        return None;
    }
    let before = before.trim_end();
    let word = &before[before.trim_end_matches(is_name).len()..];
    let start = open + 1;
    let mut list = List {
        function,
        defines: DEFINING.contains(&word),
        arguments: Vec::new(),
        inside: start..start,
    };
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    let mut from = start;
    for (i, c) in text[start..].char_indices().take(MAX_LIST) {
        let i = start + i;
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) => quote = (c != open).then_some(open),
            (None, '"' | '`') => quote = Some(c),
            (None, '\'') => {
                let mut rest = text[i + 1..].chars().take(MAX_QUOTED);
                quote = rest.any(|c| c == '\'').then_some(c);
            }
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') if depth > 0 => depth -= 1,
            (None, ')') => {
                list.add(text, from..i);
                list.inside.end = i;
                return Some(list);
            }
            (None, ']' | '}') => return None,
            (None, ',') if depth == 0 => {
                list.add(text, from..i);
                from = i + 1;
            }
            (None, _) => {}
        }
    }
    None
}

impl List<'_> {
    fn add(&mut self, text: &str, range: Range<usize>) {
        let piece = text[range.clone()].trim_start();
        let start = range.end - piece.len();
        let piece = piece.trim_end();
        if !piece.is_empty() {
            self.arguments.push(start..start + piece.len());
        }
    }
}

impl Argument {
    /// Whether both are the same change, at a definition or at calls.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let place = |argument: &Self| (argument.before, argument.index, argument.added.is_some());
        self.function == other.function && place(self) == place(other)
    }

    /// Whether `text` defines the function with as many parameters as a call has after the change.
    pub(super) fn is_defined_in(&self, text: &str) -> bool {
        let after = match self.added {
            Some(_) => self.before + 1,
            None => self.before.saturating_sub(1),
        };
        self.lists(text).any(|list| {
            let receiver = list.arguments.first().is_some_and(|first| {
                let first = text[first.clone()].trim_start_matches(['&', '*']);
                matches!(first.trim_start_matches("mut "), "self" | "cls")
            });
            list.defines && list.arguments.len() - usize::from(receiver) == after
        })
    }

    /// Where the function's name stands before a list of arguments.
    fn lists<'t>(&self, text: &'t str) -> impl Iterator<Item = List<'t>> {
        let names = words(text, &self.function, 0..text.len());
        let lists: Vec<_> = names
            .filter(|range| text[range.end..].starts_with('('))
            .filter_map(|range| list(text, range.end))
            .collect();
        lists.into_iter()
    }

    /// The calls in `text` that have as many arguments as there were before, and the smallest
    /// replacement that makes each follow.
    pub(super) fn places(&self, text: &str) -> Vec<(Range<usize>, String)> {
        let calls = self.lists(text).filter(|list| !list.defines);
        let calls = calls.filter(|list| list.arguments.len() == self.before);
        calls.filter_map(|list| self.apply(&list)).collect()
    }

    fn apply(&self, list: &List<'_>) -> Option<(Range<usize>, String)> {
        let place = list.arguments.get(self.index);
        let previous = list.arguments[..self.index.min(list.arguments.len())].last();
        Some(match (&self.added, place, previous) {
            (Some(added), Some(place), _) => (place.start..place.start, format!("{added}, ")),
            (Some(added), None, Some(last)) => (last.end..last.end, format!(", {added}")),
            (Some(added), None, None) => (list.inside.clone(), added.clone()),
            (None, Some(place), Some(previous)) => (previous.end..place.end, String::new()),
            (None, Some(place), None) => {
                let next = list.arguments.get(1);
                (
                    place.start..next.map_or(place.end, |next| next.start),
                    String::new(),
                )
            }
            (None, None, _) => return None,
        })
    }
}
