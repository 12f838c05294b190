use proptest::prelude::*;

use super::*;

/// A text as lines that know which line of the first text they were, if they were not touched.
#[derive(Debug, Clone)]
struct Tagged(Vec<(String, Option<usize>)>);

impl Tagged {
    /// Replaces whole lines as an editor does, and says so to `followed`.
    fn edit(&mut self, followed: &mut Followed, at: usize, n_removed: usize, new: &[String]) {
        let at = at.min(self.0.len());
        let end = (at + n_removed).min(self.0.len());
        let count = |n: usize| "x\n".repeat(n);
        followed.edit(LineEdit::of(at, true, &count(end - at), &count(new.len())));
        let new = new.iter().map(|line| (line.clone(), None));
        self.0.splice(at..end, new);
    }
}

proptest! {
    /// Few different lines, so that comparing texts would often pair the wrong ones.
    #[test]
    fn lines_that_nobody_touched_are_never_mistaken_for_others(
        n_lines in 0_usize..12,
        edits in prop::collection::vec((0_usize..14, 0_usize..4, prop::collection::vec("[ab]", 0..4)), 0..12),
    ) {
        let base: Vec<String> = (0..n_lines).map(|i| ["a", "b"][i % 2].to_owned()).collect();
        let mut now = Tagged(base.iter().cloned().enumerate().map(|(i, l)| (l, Some(i))).collect());
        let mut followed = Followed::default();
        for (at, n_removed, new) in &edits {
            now.edit(&mut followed, *at, *n_removed, new);
        }
        let bytes = |lines: &[String]| -> Vec<Vec<u8>> { lines.iter().map(|l| format!("{l}\n").into_bytes()).collect() };
        let now_lines: Vec<String> = now.0.iter().map(|(l, _)| l.clone()).collect();
        let (before, after) = (bytes(&base), bytes(&now_lines));
        let before: Vec<&[u8]> = before.iter().map(Vec::as_slice).collect();
        let after: Vec<&[u8]> = after.iter().map(Vec::as_slice).collect();
        let changes = followed.changes(&before, &after);
        // The changes lead from one text to the other.
        let (mut b, mut a, mut made) = (0, 0, Vec::new());
        for change in &changes {
            prop_assert!(change.before.start >= b && change.after.start >= a);
            made.extend_from_slice(&before[b..change.before.start]);
            prop_assert_eq!(change.before.start - b, change.after.start - a);
            // Between them each line is itself, or one typed anew that reads the same.
            for (line, tagged) in (b..change.before.start).zip(&now.0[a..]) {
                prop_assert!(tagged.1.is_none_or(|was| was == line));
            }
            made.extend_from_slice(&after[change.after.clone()]);
            (b, a) = (change.before.end, change.after.end);
        }
        made.extend_from_slice(&before[b..]);
        for (line, tagged) in (b..before.len()).zip(&now.0[a..]) {
            prop_assert!(tagged.1.is_none_or(|was| was == line));
        }
        prop_assert_eq!(made, after);
    }
}

#[test]
fn a_copied_line_is_not_the_line() {
    let mut followed = Followed::default();
    // "x" is typed above "x": by looks it could as well be below.
    followed.edit(LineEdit::of(0, true, "", "x\n"));
    let (before, after): (Vec<&[u8]>, Vec<&[u8]>) = (vec![b"x\n"], vec![b"x\n", b"x\n"]);
    let changes = followed.changes(&before, &after);
    assert_eq!(
        changes,
        [Change {
            before: 0..0,
            after: 0..1
        }]
    );
}

#[test]
fn edits_nobody_told_about_are_found_by_comparing() {
    let mut followed = Followed::default();
    followed.edit(LineEdit::of(0, true, "", "n\n"));
    let (before, after): (Vec<&[u8]>, Vec<&[u8]>) =
        (vec![b"a\n", b"b\n"], vec![b"n\n", b"a\n", b"c\n"]);
    assert_eq!(followed.changes(&before, &after), diff(&before, &after));
}
