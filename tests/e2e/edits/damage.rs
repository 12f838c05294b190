//! True edits of a history, written as models write them and damaged as models damage them.
//!
//! What must come of each is known without the engine: the file the commit made, its bytes after a
//! plain change of line ends or encoding, what `git merge-file` says, or a refusal.

mod diff;
mod make;

use super::history;
use super::score::{Case, Expected, Must, Tally, Verdict};

#[test]
fn no_damaged_edit_of_a_history_comes_out_wrong() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let most = number("PAIRWRIGHT_DAMAGE_EDITS").unwrap_or(40);
    let stride = number("PAIRWRIGHT_DAMAGE_STRIDE").unwrap_or(1);
    let mut cases: Vec<(String, Case, Expected)> = Vec::new();
    for edit in history::edits(&history::repository(), most, stride) {
        let Some(diff) = diff::Diff::between(&edit.before, &edit.after) else {
            continue;
        };
        for (kind, make) in make::KINDS {
            if let Some((case, expected)) = make(&edit, &diff) {
                let id = format!("{kind} {} {}", edit.commit, edit.path);
                cases.push(((*kind).to_owned(), Case { id, ..case }, expected));
            }
        }
    }
    let must_apply = cases.iter().filter(|c| c.2.must == Must::Apply).count();
    let tally = Tally::of(&cases);
    println!("{tally}{}", tally.notes.join("\n"));
    assert_eq!(tally.count(Verdict::Wrong), 0);
    assert!(
        tally.count(Verdict::Missed) * 50 <= must_apply,
        "2 % or more of what must apply is missed"
    );
}
