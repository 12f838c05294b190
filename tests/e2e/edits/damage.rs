//! True edits of a history, written as models write them and damaged as models damage them.
//!
//! What must come of each is known without the engine: the file the commit made, its bytes after a
//! plain change of line ends or encoding, what `git merge-file` says, or a refusal.

mod diff;
mod make;

use super::history;
use super::score::{Tally, Verdict};

#[test]
fn no_damaged_edit_of_a_history_comes_out_wrong() {
    let most = std::env::var("PAIRWRIGHT_DAMAGE_EDITS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let stride = std::env::var("PAIRWRIGHT_DAMAGE_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let only = std::env::var("PAIRWRIGHT_DAMAGE_ONLY").ok();
    let mut tally = Tally::default();
    let mut must_apply = 0;
    for edit in history::edits(&history::repository(), most, stride) {
        let Some(hunks) = diff::Diff::between(&edit.before, &edit.after) else { continue };
        for (kind, make) in make::KINDS {
            if only.as_ref().is_some_and(|only| !kind.starts_with(only.as_str())) {
                continue;
            }
            if let Some(damaged) = make(&edit, &hunks) {
                must_apply += usize::from(damaged.expected.must == super::score::Must::Apply);
                tally.add(kind, &damaged.case(kind, &edit), &damaged.expected);
            }
        }
    }
    println!("{tally}{}", tally.notes.join("\n"));
    assert_eq!(tally.count(Verdict::Wrong), 0);
    assert!(tally.count(Verdict::Missed) * 50 <= must_apply, "2 % or more of what must apply is missed");
}
