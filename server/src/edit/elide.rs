//! Lines that stand for text a model left out: `// ... existing code ...`, `...`.
//!
//! Between text to find they mark a gap. In text to write they are never text: a placeholder in a
//! file is code that was lost.

/// Words that tell a placeholder from a comment that happens to have dots.
const WORDS: &[&str] = &[
    "existing",
    "rest",
    "remaining",
    "remainder",
    "same",
    "unchanged",
    "previous",
    "other",
    "omitted",
    "before",
    "code",
    "content",
    "contents",
    "implementation",
    "snip",
    "truncated",
    "keep",
    "etc",
];
const COMMENT_OPENERS: &[&str] = &[
    "//", "#", "--", "/*", "<!--", "{/*", "%", ";", "*", "\"\"\"", "'",
];
const COMMENT_CLOSERS: &[&str] = &["*/}", "*/", "-->", "\"\"\""];

/// What a line says about left-out text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A comment that says so.
    Comment,
    /// Three dots and nothing else, which some languages take for code.
    Bare,
}

/// Reads a line that stands for left-out text.
pub fn mark(line: &str) -> Option<Mark> {
    let mut text = line.trim();
    if text.len() > 120 {
        return None;
    }
    if is_dots(
        text.trim_start_matches(['[', '('])
            .trim_end_matches([']', ')']),
    ) {
        return Some(Mark::Bare);
    }
    let mut is_comment = false;
    for opener in COMMENT_OPENERS {
        if let Some(rest) = text.strip_prefix(opener) {
            (text, is_comment) = (rest.trim_start_matches(['/', '#', '*', '!']).trim(), true);
            break;
        }
    }
    for closer in COMMENT_CLOSERS {
        text = text.strip_suffix(closer).unwrap_or(text).trim();
    }
    let text = text
        .trim_start_matches(['[', '(', '{'])
        .trim_end_matches([']', ')', '}'])
        .trim();
    if is_comment && is_dots(text) {
        return Some(Mark::Comment);
    }
    let lower = text.to_lowercase();
    let words = || {
        lower
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| !w.is_empty())
    };
    let is_short = words().count() <= 10;
    let has_word = words().any(|w| WORDS.contains(&w));
    let at_an_end = |dots: &str| lower.starts_with(dots) || lower.ends_with(dots);
    let has_dots = at_an_end("...") || at_an_end("…");
    let says_so = [
        "remains the same",
        "remains unchanged",
        "stays the same",
        "remain unchanged",
        "remain the same",
    ]
    .iter()
    .any(|phrase| lower.ends_with(phrase));
    let is_rest = lower.starts_with("rest of")
        || lower.starts_with("the rest of")
        || lower.starts_with("existing code");
    let is_mark = is_short
        && ((has_dots && has_word)
            || (is_comment && is_rest && (says_so || lower.ends_with("here"))));
    (is_mark || (is_comment && is_short && says_so && has_word)).then_some(Mark::Comment)
}

fn is_dots(text: &str) -> bool {
    text == "…" || (text.len() >= 3 && text.bytes().all(|b| b == b'.'))
}

/// Returns the first of `added` that is a placeholder. Lines that the file has already are text.
///
/// `is_python`: there `...` below something is an empty body.
pub fn find_placeholder<'a>(
    added: impl IntoIterator<Item = &'a str>,
    is_in_file: impl Fn(&str) -> bool,
    is_python: bool,
) -> Option<&'a str> {
    added.into_iter().find(|line| match mark(line) {
        Some(Mark::Comment) => !is_in_file(line),
        Some(Mark::Bare) => !(is_in_file(line) || is_python && line.starts_with([' ', '\t'])),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_that_stand_for_code_are_marks() {
        for line in [
            "// ... existing code ...",
            "    # ... rest of the function ...",
            "/* ... */",
            "<!-- ... -->",
            "      {/* ... existing code ... */}",
            "# ...",
            "-- … rest unchanged",
            "// Rest of the code remains the same",
            "// rest of the methods here",
            "... (rest of the file) ...",
            "# [... unchanged ...]",
        ] {
            assert_eq!(mark(line), Some(Mark::Comment), "{line}");
        }
        for line in ["...", "    ...", "…", "[...]"] {
            assert_eq!(mark(line), Some(Mark::Bare), "{line}");
        }
    }

    #[test]
    fn code_and_ordinary_comments_are_not_marks() {
        for line in [
            "f(...args);",
            "let [first, ...rest] = list;",
            "// existing code paths are tested below",
            "# loading...",
            "// Wait, then retry...",
            "match x { _ => todo!() }",
            "print(\"...\")",
            "",
            "// the rest of the arguments",
        ] {
            assert_eq!(mark(line), None, "{line}");
        }
    }

    #[test]
    fn dots_below_a_python_heading_are_code() {
        let added = ["def f(self):", "    ..."];
        assert_eq!(find_placeholder(added, |_| false, true), None);
        assert_eq!(find_placeholder(added, |_| false, false), Some("    ..."));
    }
}
