//! One line or a block: decided by the shape of the code at the cursor.
//!
//! A suggestion of several lines is offered where a block was opened and is empty, below a
//! comment that says what comes, after a whole suggestion was taken, and when asked for; anywhere
//! else more than the rest of the line is mostly wrong (facts of published studies agree: half of
//! all accepted lines are shorter than 20 characters).
//! Works on brackets, colons and indentation, which are the same in every language and right
//! while the code does not parse, as it mostly does not at the cursor.

use super::surroundings::Surroundings;
use super::trim::{Extent, indent_width};

/// What besides the text speaks for a longer suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The user typed.
    Typing,
    /// The last thing the user did was to take a whole suggestion.
    AfterAccept,
    /// The user asked for suggestions.
    Invoked,
}

/// Decides how far a suggestion at the cursor may reach.
pub fn extent(around: &Surroundings, max_lines: usize, occasion: Occasion) -> Extent {
    let block = Extent::Block { max_lines };
    if max_lines <= 1 || !around.line_after.trim().is_empty() {
        return Extent::Line;
    }
    match occasion {
        Occasion::AfterAccept | Occasion::Invoked => block,
        Occasion::Typing if in_empty_block(around) || below_comment(around) => block,
        Occasion::Typing => Extent::Line,
    }
}

/// Whether a suggestion may be offered unasked: at the end of a line, or where only closing
/// characters follow the cursor.
pub fn speaks_unasked(line_after: &str) -> bool {
    let rest = line_after.trim();
    let rest = rest.trim_start_matches([')', '>', '}', ']', '"', '\'', '`']);
    matches!(
        rest.trim(),
        "" | ":" | "{" | ";" | "," | ":{" | ") {" | ");" | "),"
    )
}

/// Whether the cursor stands in a block that was just opened: at the end of the opening line, or
/// on the blank line below it, with nothing in the block yet.
fn in_empty_block(around: &Surroundings) -> bool {
    let line = around.line_before;
    let opener_indent = if line.trim().is_empty() {
        let Some(previous) = around.previous_indented() else {
            return false;
        };
        if !opens_block(previous) || indent_width(line) < indent_width(previous) {
            return false;
        }
        indent_width(previous)
    } else if opens_block(line) {
        indent_width(line)
    } else {
        return false;
    };
    around
        .next_indented()
        .is_none_or(|next| indent_width(next) <= opener_indent)
}

fn opens_block(line: &str) -> bool {
    let line = line.trim_end();
    if line.ends_with(['{', '(', '[', ':']) || line.ends_with("=>") || line.ends_with("->") {
        return true;
    }
    let last = line.rsplit(|c: char| !c.is_alphanumeric()).next();
    // `do |x|` of Ruby ends with its parameters.
    matches!(last, Some("do" | "then" | "begin" | "else"))
        || line.ends_with('|') && line.contains(" do |")
}

/// Whether the cursor stands on a blank line below a comment, with nothing below at its level.
fn below_comment(around: &Surroundings) -> bool {
    const COMMENTS: &[&str] = &["//", "#", "--", "*/", "\"\"\"", ";;", "%"];
    let indent = indent_width(around.line_before);
    let on_blank_line = around.line_before.trim().is_empty();
    let previous = around
        .previous_indented()
        .filter(|p| indent_width(p) == indent);
    let comment = previous.is_some_and(|p| COMMENTS.iter().any(|c| p.trim_start().starts_with(c)));
    let free_below = around
        .next_indented()
        .is_none_or(|next| indent_width(next) < indent)
        || around.blank_below();
    on_blank_line && comment && free_below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_offered_where_a_block_is_empty_and_nowhere_else() {
        let cases = [
            ("fn f() {$0", true),
            ("fn f() {$0\n}\n", true),
            ("fn f() {\n    $0\n}\n", true),
            ("def f():\n    $0\n\ndef g():", true),
            ("items.each do |x|$0", true),
            ("fn f() {$0\n    one();\n}\n", false),
            ("fn f() {\n    $0\n    one();\n}\n", false),
            ("let x = $0", false),
            ("    one();\n    $0", false),
            ("call($0)", false),
            ("// adds two numbers\n$0", true),
            ("// adds two numbers\n$0\nfn add() {}", false),
            ("    // adds\n    $0\n}", true),
        ];
        for (at, block) in cases {
            let (before, after) = at.split_once("$0").unwrap();
            let found = extent(&Surroundings::new(before, after), 5, Occasion::Typing);
            assert_eq!(found != Extent::Line, block, "{at:?}");
        }
    }

    #[test]
    fn text_after_the_cursor_allows_one_line_only() {
        let around = Surroundings::new("if x {", " y }\n");
        assert_eq!(extent(&around, 9, Occasion::Invoked), Extent::Line);
        assert_eq!(
            extent(&Surroundings::new("x", "\n"), 1, Occasion::Invoked),
            Extent::Line
        );
        assert_ne!(
            extent(&Surroundings::new("x", "\n"), 9, Occasion::AfterAccept),
            Extent::Line
        );
    }

    #[test]
    fn unasked_suggestions_keep_out_of_the_middle_of_lines() {
        for rest in ["", "  ", ")", "\")", ");", "}", "]) {", ":", "'", ")}>"] {
            assert!(speaks_unasked(rest), "{rest:?}");
        }
        for rest in ["x", " = 1", "(a)", ".b", "\"text"] {
            assert!(!speaks_unasked(rest), "{rest:?}");
        }
    }
}
