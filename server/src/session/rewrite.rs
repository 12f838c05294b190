//! What the user rewrote last: stretches of text, each before and after.
//!
//! A stretch grows while edits touch it or lie in the same name, as when a name is retyped key by
//! key; an edit elsewhere begins the next one.
//!
//! Holds: noting an edit copies pointers, never text, so it may be done for every key.
//! Not here: what follows from a rewrite (`complete::next_edit`).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ropey::Rope;

use super::document::{Document, Edit};

/// Rewrites that are remembered.
const REMEMBERED: usize = 8;
/// Edits that have more than this many bytes of a name between them do not belong together.
const CLOSE: usize = 64;
/// What grows longer is not remembered: a paste, a formatter, another branch.
const MAX_BYTES: usize = 4 << 10;

/// A stretch of a document that was rewritten.
#[derive(Debug, Clone)]
pub struct Rewrite {
    pub uri: Arc<str>,
    /// The document before, and the bytes of it that gave way.
    pub before: Rope,
    pub was: Range<usize>,
    /// The document after, and the bytes that stand there now.
    pub after: Rope,
    pub now: Range<usize>,
}

/// The last rewrites, newest first.
#[derive(Debug, Default)]
pub(super) struct Rewrites(VecDeque<Rewrite>);

impl Rewrites {
    /// Notes an edit that turned `before` into the text of `document`.
    pub(super) fn note(&mut self, document: &Document, before: &Rope, edit: &Edit) {
        if edit.removed == 0 && edit.inserted.is_empty() {
            return;
        }
        let replaced = edit.start..edit.start + edit.removed;
        let grown = self
            .0
            .front()
            .filter(|last| last.uri == document.uri && last.is_close(&replaced));
        let mut rewrite = match grown {
            Some(_) => self.0.pop_front(),
            None => None,
        }
        .unwrap_or_else(|| Rewrite {
            uri: Arc::clone(&document.uri),
            before: before.clone(),
            was: replaced.start..replaced.start,
            after: document.text.clone(),
            now: replaced.start..replaced.start,
        });
        rewrite.grow(&replaced, edit.inserted.len());
        rewrite.after = document.text.clone();
        if rewrite.was.len().max(rewrite.now.len()) > MAX_BYTES {
            // What came before it is no longer what the user is at.
            self.0.clear();
            return;
        }
        self.0.push_front(rewrite);
        self.0.truncate(REMEMBERED);
    }

    /// Forgets what was done in a document.
    pub(super) fn forget(&mut self, uri: &str) {
        self.0.retain(|rewrite| &*rewrite.uri != uri);
    }

    pub(super) fn list(&self) -> Arc<[Rewrite]> {
        self.0.iter().cloned().collect()
    }
}

impl Rewrite {
    /// Whether bytes of `after` touch what stands there now, or have only a part of a name between.
    fn is_close(&self, replaced: &Range<usize>) -> bool {
        let gap = if replaced.start > self.now.end {
            self.now.end..replaced.start
        } else {
            replaced.end..self.now.start
        };
        if gap.is_empty() {
            return true;
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        gap.len() <= CLOSE && self.after.byte_slice(gap).chars().all(is_name)
    }

    /// Takes in that the bytes `replaced`, close to `now`, gave way to `inserted` bytes.
    fn grow(&mut self, replaced: &Range<usize>, inserted: usize) {
        let start = self.now.start.min(replaced.start);
        let end = self.now.end.max(replaced.end);
        self.was = self.was.start - (self.now.start - start)..self.was.end + (end - self.now.end);
        self.now = start..end - replaced.len() + inserted;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Session;
    use super::super::document::{Change, Position};
    use super::*;

    fn texts(session: &Session) -> Vec<(String, String)> {
        let snapshot = session.snapshot();
        let rewrites = snapshot.rewrites.iter();
        rewrites
            .map(|r| {
                let was = r.before.byte_slice(r.was.clone()).to_string();
                (was, r.after.byte_slice(r.now.clone()).to_string())
            })
            .collect()
    }

    fn change(session: &Session, version: i32, columns: Range<u32>, text: &str) {
        let at = |column| Position { line: 0, column };
        let change = Change {
            range: Some(at(columns.start)..at(columns.end)),
            text: text.into(),
        };
        session.change("file:///a", version, &[change]);
    }

    #[test]
    fn keys_side_by_side_are_one_rewrite_and_a_key_elsewhere_begins_another() {
        let session = Session::default();
        let text = format!("count = 1{}count", " ".repeat(40));
        session.open(Document::new("file:///a", "python", 1, &text));
        // The word is deleted from its end and typed anew.
        for (version, end) in (2..).zip([5, 4, 3, 2, 1]) {
            change(&session, version, end - 1..end, "");
        }
        for (version, (at, key)) in
            (7..).zip((0_u32..).zip("total".split("").filter(|k| !k.is_empty())))
        {
            change(&session, version, at..at, key);
        }
        assert_eq!(texts(&session), [("count".into(), "total".into())]);
        change(&session, 20, 49..54, "x");
        let expected = [
            ("count".into(), "x".into()),
            ("count".into(), "total".into()),
        ];
        assert_eq!(texts(&session), expected);
        session.close("file:///a");
        assert!(texts(&session).is_empty());
        // A client may open what is open, and then the text is another.
        session.open(Document::new("file:///a", "python", 1, "count"));
        change(&session, 2, 0..1, "a");
        session.open(Document::new("file:///a", "python", 3, ""));
        assert!(texts(&session).is_empty());
    }

    #[test]
    fn two_names_on_a_line_are_two_rewrites_and_both_ends_of_one_are_one() {
        let session = Session::default();
        session.open(Document::new("file:///a", "python", 1, "f(ab, ab)"));
        change(&session, 2, 2..4, "x");
        change(&session, 3, 5..7, "x");
        assert_eq!(
            texts(&session),
            [("ab".into(), "x".into()), ("ab".into(), "x".into())]
        );
        let session = Session::default();
        session.open(Document::new("file:///a", "python", 1, "get_user()"));
        change(&session, 2, 8..8, "s");
        change(&session, 3, 0..3, "put");
        assert_eq!(texts(&session), [("get_user".into(), "put_users".into())]);
    }

    #[test]
    fn what_is_too_long_is_forgotten_with_all_before_it() {
        let session = Session::default();
        session.open(Document::new("file:///a", "python", 1, "ab"));
        change(&session, 2, 1..1, "x");
        change(&session, 3, 1..1, &"y".repeat(MAX_BYTES + 1));
        assert!(texts(&session).is_empty());
    }

    proptest! {
        /// A rewrite says all that is different between its two texts.
        #[test]
        fn putting_the_new_text_in_place_of_the_old_gives_the_document(
            edits in prop::collection::vec((0_u32..60, 0_u32..6, "[a-zé\n]{0,4}"), 1..30),
        ) {
            let session = Session::default();
            session.open(Document::new("file:///a", "python", 1, &"abcdé ".repeat(12)));
            for (version, (start, len, text)) in (2..).zip(edits) {
                change(&session, version, start..start + len, &text);
                let snapshot = session.snapshot();
                for rewrite in snapshot.rewrites.iter() {
                    let mut text = rewrite.before.to_string();
                    let new = rewrite.after.byte_slice(rewrite.now.clone()).to_string();
                    text.replace_range(rewrite.was.clone(), &new);
                    prop_assert_eq!(text, rewrite.after.to_string());
                }
            }
        }
    }
}
