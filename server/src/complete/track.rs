//! A piece of text offered at a place, followed while the user types.
//!
//! Holds: after any sequence of edits a live track knows exactly what was typed at its place since
//! it was made; an edit that it cannot follow ends it. So a suggestion is reused by comparing a
//! few bytes, and can never be offered for text it was not made for.

use std::borrow::Cow;

use crate::session::document::{Edit, with_lf};

/// A place in a document and what was typed there since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Byte offset and line of the place.
    anchor: usize,
    line: usize,
    typed: String,
    version: i32,
}

/// Whether a track can still be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Alive,
    Lost,
}

impl Track {
    pub fn new(anchor: usize, line: usize, version: i32) -> Self {
        Self {
            anchor,
            line,
            typed: String::new(),
            version,
        }
    }

    /// What was typed; lines end with `\n`, as in what is offered.
    pub fn typed(&self) -> Cow<'_, str> {
        with_lf(&self.typed)
    }

    pub fn version(&self) -> i32 {
        self.version
    }

    /// Byte offset of the place the text was offered at.
    pub fn anchor(&self) -> usize {
        self.anchor
    }

    /// Byte offset right after what was typed.
    pub fn cursor(&self) -> usize {
        self.anchor + self.typed.len()
    }

    /// Follows one edit.
    pub fn edited(&mut self, edit: &Edit) -> Fate {
        let cursor = self.cursor();
        let end = edit.start + edit.removed;
        if edit.start > cursor {
            // Below the cursor; what is shown there is settled anew when it is asked for.
            return Fate::Alive;
        }
        // A suggestion that takes the place of a closer behind the cursor is put in with it.
        if edit.start >= self.anchor && (end <= cursor || !edit.inserted.is_empty()) {
            let typed = edit.start - self.anchor..end.min(cursor) - self.anchor;
            self.typed.replace_range(typed, &edit.inserted);
            return Fate::Alive;
        }
        let lines_inserted = edit.inserted.matches('\n').count();
        let last_line = (edit.line + lines_inserted).saturating_add_signed(-edit.line_delta);
        if end <= self.anchor && last_line < self.line {
            // Above, on other lines: an import was added, say.
            self.anchor = self.anchor + edit.inserted.len() - edit.removed;
            self.line = self.line.saturating_add_signed(edit.line_delta);
            return Fate::Alive;
        }
        Fate::Lost
    }

    /// Follows the document to `version`, after all edits that lead there.
    pub fn reached(&mut self, version: i32) {
        self.version = version;
    }

    /// Returns what was typed since, as seen from a request at byte `offset` of `version`; `None`
    /// when the request is for another place or text.
    ///
    /// Closers that an editor added behind the cursor on its own are not what the user typed.
    pub fn typed_at(&self, offset: usize, version: i32) -> Option<Cow<'_, str>> {
        if version != self.version {
            return None;
        }
        let typed = self.typed.get(..offset.checked_sub(self.anchor)?)?;
        let added = &self.typed[typed.len()..];
        added
            .chars()
            .all(|c| matches!(c, ')' | ']' | '}' | '>' | '"' | '\'' | '`'))
            .then(|| with_lf(typed))
    }

    /// Returns what is left of `offered` after what was typed; `None` when the user typed
    /// something else.
    pub fn rest<'t>(&self, offered: &'t str, offset: usize, version: i32) -> Option<&'t str> {
        offered.strip_prefix(&*self.typed_at(offset, version)?)
    }

    /// Whether `offered`, as far as it is written, can still become what the user is typing.
    pub fn agrees(&self, offered: &str) -> bool {
        let typed = self.typed();
        let closed = typed.trim_end_matches([')', ']', '}', '>', '"', '\'', '`']);
        let same = |typed: &str| offered.starts_with(typed) || typed.starts_with(offered);
        same(&typed) || same(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::document::{Change, Document, PositionEncoding};
    use proptest::prelude::*;

    /// An edit of a text whose first line is 9 bytes long; line ends are never removed.
    fn edit(start: usize, removed: usize, inserted: &str) -> Edit {
        let line_delta = inserted.matches('\n').count() as isize;
        Edit {
            start,
            removed,
            inserted: inserted.into(),
            line: usize::from(start > 8),
            line_delta,
        }
    }

    /// Makes a track at byte 10, on the second line, applies the edits and returns what is left of `println!()`.
    fn rest_after(edits: &[Edit], offset: usize) -> Option<&'static str> {
        let mut track = Track::new(10, 1, 1);
        for edit in edits {
            if track.edited(edit) == Fate::Lost {
                return None;
            }
        }
        track.reached(2);
        track.rest("println!()", offset, 2)
    }

    #[test]
    fn typing_the_offered_text_keeps_it() {
        assert_eq!(rest_after(&[], 10), Some("println!()"));
        assert_eq!(
            rest_after(&[edit(10, 0, "p"), edit(11, 0, "ri")], 13),
            Some("ntln!()")
        );
        assert_eq!(
            rest_after(&[edit(10, 0, "prix"), edit(13, 1, "")], 13),
            Some("ntln!()"),
            "a slip taken back"
        );
        assert_eq!(
            rest_after(&[edit(10, 0, "pr"), edit(10, 2, "print")], 15),
            Some("ln!()"),
            "a menu item taken"
        );
        assert_eq!(
            rest_after(&[edit(10, 0, "println!"), edit(18, 0, "()")], 19),
            Some(")"),
            "the editor closed it"
        );
        assert_eq!(
            rest_after(&[edit(0, 0, "use x;\n"), edit(17, 0, "p")], 18),
            Some("rintln!()"),
            "text above moved it"
        );
        assert_eq!(
            rest_after(&[edit(10, 0, "pr"), edit(12, 1, "intln!")], 18),
            Some("()"),
            "with what stood behind it"
        );
        assert_eq!(
            rest_after(&[edit(40, 3, "zzz"), edit(10, 0, "p")], 11),
            Some("rintln!()"),
            "text below changed"
        );
    }

    #[test]
    fn lines_that_end_otherwise_in_the_document_are_typed_along() {
        let mut track = Track::new(10, 1, 1);
        track.edited(&edit(10, 0, "{\r\n    "));
        track.reached(2);
        assert!(track.agrees("{\n    go();"));
        assert_eq!(track.rest("{\n    go();", 17, 2), Some("go();"));
    }

    #[test]
    fn anything_else_ends_it() {
        assert_eq!(rest_after(&[edit(10, 0, "x")], 11), None, "other text");
        assert_eq!(
            rest_after(&[edit(9, 1, "")], 9),
            None,
            "text before it on the line"
        );
        assert_eq!(
            rest_after(&[edit(9, 0, "x")], 11),
            None,
            "the start of its line"
        );
        assert_eq!(rest_after(&[edit(5, 10, "")], 5), None, "the place itself");
        assert_eq!(
            rest_after(&[edit(10, 0, "pri")], 11),
            None,
            "the cursor is elsewhere"
        );
        assert_eq!(rest_after(&[], 9), None);
        let mut track = Track::new(10, 1, 1);
        track.edited(&edit(10, 0, "p"));
        track.reached(2);
        assert_eq!(track.rest("println!()", 11, 3), None, "another version");
    }

    #[test]
    fn a_stream_agrees_until_it_says_otherwise() {
        let mut track = Track::new(0, 0, 1);
        track.edited(&edit(0, 0, "foo("));
        for (written, agrees) in [
            ("", true),
            ("fo", true),
            ("foo(bar", true),
            ("fa", false),
            ("foo[", false),
        ] {
            assert_eq!(track.agrees(written), agrees, "{written:?}");
        }
    }

    proptest! {
        /// A track follows random edits exactly, or ends; it never offers text for a wrong place.
        #[test]
        fn what_is_typed_is_known_exactly(
            edits in proptest::collection::vec((0usize..30, 0usize..4, "[a-c\n]{0,3}"), 0..10)
        ) {
            let mut document = Document::new("file:///a", "text", 0, "01234\n789abcdefghij");
            let mut track = Track::new(10, 1, 0);
            for (i, (start, removed, inserted)) in edits.iter().enumerate() {
                let start = start % (document.text.len_bytes() + 1);
                let end = (start + removed).min(document.text.len_bytes());
                let at = |byte| document.position(byte, PositionEncoding::Utf8);
                let change = Change { range: Some(at(start)..at(end)), text: inserted.clone() };
                let edit = document.apply(&change, PositionEncoding::Utf8);
                if track.edited(&edit) == Fate::Lost { return Ok(()); }
                track.reached(i32::try_from(i).unwrap());
                prop_assert_eq!(document.slice(track.anchor()..track.cursor()), track.typed());
            }
        }
    }
}
