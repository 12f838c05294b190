use proptest::prelude::*;

use super::*;

fn lines(text: &str) -> Vec<&[u8]> {
    text.split_inclusive('\n').map(str::as_bytes).collect()
}

fn merged(ours: &str, base: &str, theirs: &str, adjacent: Adjacent) -> Result<String, usize> {
    let (ours, base, theirs) = (lines(ours), lines(base), lines(theirs));
    let (our_changes, their_changes) = (diff(&base, &ours), diff(&base, &theirs));
    let ours = Side {
        lines: &ours,
        changes: &our_changes,
    };
    let theirs = Side {
        lines: &theirs,
        changes: &their_changes,
    };
    let merged = merge(base.len(), ours, theirs, adjacent);
    match merged.conflicts.len() {
        0 => Ok(String::from_utf8(merged.bytes).unwrap()),
        n => Err(n),
    }
}

#[test]
fn changes_in_different_places_are_both_kept() {
    let out = merged(
        "A\nb\nc\nd\n",
        "a\nb\nc\nd\n",
        "a\nb\nc\nD\n",
        Adjacent::Conflict,
    );
    assert_eq!(out, Ok("A\nb\nc\nD\n".into()));
}

#[test]
fn changes_of_the_same_lines_are_a_conflict_unless_they_are_the_same() {
    assert_eq!(merged("x\n", "a\n", "y\n", Adjacent::Separate), Err(1));
    assert_eq!(
        merged("x\n", "a\n", "x\n", Adjacent::Separate),
        Ok("x\n".into())
    );
}

#[test]
fn neighbours_are_a_conflict_only_where_asked() {
    let (ours, base, theirs) = ("A\nb\n", "a\nb\n", "a\nB\n");
    assert_eq!(merged(ours, base, theirs, Adjacent::Conflict), Err(1));
    assert_eq!(
        merged(ours, base, theirs, Adjacent::Separate),
        Ok("A\nB\n".into())
    );
    // Two insertions in one place have no order.
    assert_eq!(
        merged("x\na\n", "a\n", "y\na\n", Adjacent::Separate),
        Err(1)
    );
}

proptest! {
    #[test]
    fn merging_with_an_unchanged_side_is_the_other_side(
        base in prop::collection::vec("[ab]\n", 0..12),
        other in prop::collection::vec("[abc]\n", 0..12),
    ) {
        let (base, other) = (base.concat(), other.concat());
        for adjacent in [Adjacent::Conflict, Adjacent::Separate] {
            prop_assert_eq!(merged(&base, &base, &other, adjacent), Ok(other.clone()));
            prop_assert_eq!(merged(&other, &base, &base, adjacent), Ok(other.clone()));
            prop_assert_eq!(merged(&other, &base, &other, adjacent), Ok(other.clone()));
        }
    }

    /// Whether there is a conflict does not depend on who is first, and neither does the outcome.
    #[test]
    fn sides_can_be_exchanged(
        base in prop::collection::vec("[a-d]\n", 0..10),
        ours in prop::collection::vec("[a-d]\n", 0..10),
        theirs in prop::collection::vec("[a-d]\n", 0..10),
    ) {
        let (base, ours, theirs) = (base.concat(), ours.concat(), theirs.concat());
        let one = merged(&ours, &base, &theirs, Adjacent::Conflict);
        let other = merged(&theirs, &base, &ours, Adjacent::Conflict);
        prop_assert_eq!(one.is_ok(), other.is_ok());
        if one.is_ok() {
            prop_assert_eq!(one, other);
        }
    }
}
