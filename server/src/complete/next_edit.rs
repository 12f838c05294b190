//! The next edit: what follows elsewhere from what the user has just rewritten.
//!
//! Three kinds are seen in a rewrite: a name that became another, an expression that became
//! another, and an argument that a call or a definition gained or lost. The next place where the
//! same is still to be done is proposed: below the cursor first, then from the top, then in the
//! other open documents.
//!
//! Holds: pure and in memory, linear in the text of the open documents, which are bounded; a name
//! that is local to a function is not followed out of it. One change at one place says little:
//! it is followed only from where a name is bound, or where a definition says the same, or once
//! the user has done it twice.
//! Where none of this says what follows, a model may (`next_edit::model`).
//! Not here: how rewrites are noted (`session::rewrite`), what a client shows of a proposal.

mod call;
pub(super) mod model;
mod scope;

use std::ops::Range;
use std::sync::Arc;

use crate::session::Snapshot;
use crate::session::document::Document;
use crate::session::rewrite::Rewrite;
use call::Argument;

/// Larger documents are data, and are not searched.
const MAX_DOCUMENT: usize = 1 << 20;
/// Documents that are searched, most recently used first.
const MAX_DOCUMENTS: usize = 12;
/// Longest text, before or after, that is repeated elsewhere.
const MAX_TEXT: usize = 200;
/// Shortest expression that says enough to be followed.
const MIN_EXPRESSION: usize = 6;

/// A proposed edit of one document.
#[derive(Debug, Clone)]
pub struct NextEdit {
    pub document: Arc<Document>,
    /// Bytes to replace.
    pub range: Range<usize>,
    pub text: String,
    pub change: Change,
}

/// What was done, and is proposed to be done again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Name {
        old: String,
        new: String,
    },
    Expression {
        old: String,
        new: String,
    },
    Argument(Argument),
    /// What a model wrote.
    Written {
        old: String,
        new: String,
    },
}

/// Finds the next place for what was rewritten last, seen from byte `cursor` of `document`.
/// `defines` says whether a name is one that other files may use; changes that `is_unwanted` are
/// not proposed.
pub fn next_edit(
    snapshot: &Snapshot,
    document: &Arc<Document>,
    cursor: usize,
    defines: impl Fn(&str) -> bool,
    is_unwanted: impl Fn(&Change) -> bool,
) -> Option<NextEdit> {
    let rewrite = snapshot.rewrites.first()?;
    let rewritten = snapshot.document(&rewrite.uri)?;
    if rewritten.text.len_bytes() > MAX_DOCUMENT || rewritten.text != rewrite.after {
        return None;
    }
    let text = rewritten.text.to_string();
    let (change, at) = change(rewrite, &text)?;
    if is_unwanted(&change) {
        return None;
    }
    let is_meant = match &change {
        Change::Name { .. } => scope::binds(&text, &at),
        Change::Argument(argument) => argument.is_of_definition || is_defined(snapshot, argument),
        Change::Expression { .. } | Change::Written { .. } => false,
    };
    if !is_meant && !is_repeated(snapshot, &change) {
        return None;
    }
    let scope = match &change {
        Change::Name { old, new } if !defines(old) && !defines(new) => scope::of(&text, at.start),
        Change::Name { .. }
        | Change::Expression { .. }
        | Change::Argument(_)
        | Change::Written { .. } => None,
    };
    let done = |document: &Document, range: &Range<usize>| {
        document.uri == rewrite.uri && range.start < at.end && range.end > at.start
    };
    let is_local = scope.is_some();
    let places = |document: &Arc<Document>, from: usize| {
        if is_local && document.uri != rewrite.uri || document.text.len_bytes() > MAX_DOCUMENT {
            return None;
        }
        let text = document.text.to_string();
        let inside = scope.clone().unwrap_or(0..text.len());
        let mut found = change.places(&text, inside);
        found.retain(|(range, _)| !done(document, range));
        let next = found.iter().position(|(range, _)| range.start >= from);
        let (range, text) = found.swap_remove(next.unwrap_or(0).min(found.len().checked_sub(1)?));
        Some(NextEdit {
            document: Arc::clone(document),
            range,
            text,
            change: change.clone(),
        })
    };
    places(document, cursor).or_else(|| {
        let others = snapshot.documents.iter().filter(|d| d.uri != document.uri);
        others
            .take(MAX_DOCUMENTS)
            .find_map(|other| places(other, 0))
    })
}

/// Whether one of the rewrites before the last did the same.
fn is_repeated(snapshot: &Snapshot, change: &Change) -> bool {
    let mut before = snapshot.rewrites.iter().skip(1);
    before.any(|rewrite| {
        let is_large = rewrite.after.len_bytes() > MAX_DOCUMENT;
        let read = || self::change(rewrite, &rewrite.after.to_string());
        !is_large && read().is_some_and(|(earlier, _)| earlier.is_like(change))
    })
}

/// Whether a definition in the open documents takes as many arguments as the call has now.
fn is_defined(snapshot: &Snapshot, argument: &Argument) -> bool {
    let mut documents = snapshot.documents.iter().take(MAX_DOCUMENTS);
    documents.any(|document| {
        document.text.len_bytes() <= MAX_DOCUMENT
            && argument.is_defined_in(&document.text.to_string())
    })
}

/// Reads what a rewrite did, and where it stands in `text`, the document now.
fn change(rewrite: &Rewrite, text: &str) -> Option<(Change, Range<usize>)> {
    let was = rewrite.before.byte_slice(rewrite.was.clone()).to_string();
    let now = text.get(rewrite.now.clone())?;
    let same_start = common(was.chars(), now.chars());
    let (was_rest, now_rest) = (&was[same_start..], &now[same_start..]);
    let same_end = common(was_rest.chars().rev(), now_rest.chars().rev());
    let old = &was_rest[..was_rest.len() - same_end];
    let new = &now_rest[..now_rest.len() - same_end];
    if old == new || old.len().max(new.len()) > MAX_TEXT || (old.to_owned() + new).contains('\n') {
        return None;
    }
    let start = rewrite.now.start + same_start;
    // Whole names: `rows` that became `columns` shares its last letter.
    let left = text[..start].len() - text[..start].trim_end_matches(is_name).len();
    let end = start + new.len();
    let right = text[end..].len() - text[end..].trim_start_matches(is_name).len();
    let whole = start - left..end + right;
    let name_of = |middle: &str| {
        format!(
            "{}{middle}{}",
            &text[whole.start..start],
            &text[end..whole.end]
        )
    };
    let (old_name, new_name) = (name_of(old), name_of(new));
    if is_a_name(&old_name) && is_a_name(&new_name) {
        let change = Change::Name {
            old: old_name,
            new: new_name,
        };
        return Some((change, whole));
    }
    let line = line_of(text, start);
    let old_line = format!("{}{old}{}", &text[line.start..start], &text[end..line.end]);
    if let Some(argument) = call::changed(&old_line, &text[line.clone()], start - line.start) {
        return Some((Change::Argument(argument), line));
    }
    // `get(0` that became `first(` shares its last parenthesis.
    let open = unclosed(&old_name)?;
    if unclosed(&new_name)? != open {
        return None;
    }
    let rest = &text[whole.end..line.end.max(whole.end)];
    let mut closing = rest.chars().take_while(|c| matches!(c, ')' | ']' | '}'));
    if (0..open).any(|_| closing.next().is_none()) {
        return None;
    }
    let (tail, at) = (&rest[..open], whole.start..whole.end + open);
    let (old, new) = (old_name + tail, new_name + tail);
    let says_enough = old.len() >= MIN_EXPRESSION && old.split(|c| !is_name(c)).any(is_a_name);
    says_enough.then_some((Change::Expression { old, new }, at))
}

/// How many brackets `text` leaves open; `None` when it closes one that it did not open.
fn unclosed(text: &str) -> Option<usize> {
    text.chars().try_fold(0_usize, |open, c| match c {
        '(' | '[' | '{' => Some(open + 1),
        ')' | ']' | '}' => open.checked_sub(1),
        _ => Some(open),
    })
}

impl Change {
    /// Whether both do the same at different places.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Argument(one), Self::Argument(other)) => one.is_like(other),
            (one, other) => one == other,
        }
    }

    /// Where it is still to be done in the bytes `inside` of `text`, and what is to stand there.
    fn places(&self, text: &str, inside: Range<usize>) -> Vec<(Range<usize>, String)> {
        match self {
            Self::Name { old, new } | Self::Expression { old, new } => words(text, old, inside)
                .filter(|range| !new.contains(old.as_str()) || !is_done(text, range, old, new))
                .map(|range| (range, new.clone()))
                .collect(),
            Self::Argument(argument) => argument.places(text),
            // A model says itself where.
            Self::Written { .. } => Vec::new(),
        }
    }
}

/// Whether `old` at `range` is already part of `new`.
fn is_done(text: &str, range: &Range<usize>, old: &str, new: &str) -> bool {
    new.match_indices(old).any(|(at, _)| {
        let start = range.start.checked_sub(at);
        start.and_then(|start| text.get(start..start + new.len())) == Some(new)
    })
}

/// Finds `word` where it stands alone.
fn words(text: &str, word: &str, inside: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let is_alone = move |range: &Range<usize>| {
        let before = text[..range.start].chars().next_back();
        let after = text[range.end..].chars().next();
        let joins = |outer: Option<char>, inner: Option<char>| {
            outer.is_some_and(is_name) && inner.is_some_and(is_name)
        };
        !joins(before, word.chars().next()) && !joins(after, word.chars().next_back())
    };
    let found = text[inside.clone()].match_indices(word);
    found
        .map(move |(at, _)| inside.start + at..inside.start + at + word.len())
        .filter(is_alone)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `text` is one name that can be told from others: not a number, not a single letter.
fn is_a_name(text: &str) -> bool {
    text.chars().all(is_name)
        && text.chars().count() > 1
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !scope::KEYWORDS.contains(&text)
}

/// Bytes that two texts have in common from the start.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    let same = one.zip(other).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

fn line_of(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    start..end
}

#[cfg(test)]
mod tests;
