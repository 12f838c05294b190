//! How far a name reaches, as far as indentation tells.

use std::ops::Range;

/// Words of the common languages that are no names. Replacing one says nothing about the others.
pub(super) const KEYWORDS: &[&str] = &[
    "and",
    "as",
    "async",
    "await",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "continue",
    "def",
    "default",
    "do",
    "double",
    "elif",
    "else",
    "elseif",
    "end",
    "enum",
    "except",
    "export",
    "extern",
    "false",
    "False",
    "final",
    "finally",
    "float",
    "fn",
    "for",
    "from",
    "func",
    "function",
    "go",
    "goto",
    "if",
    "impl",
    "import",
    "in",
    "int",
    "interface",
    "is",
    "let",
    "local",
    "long",
    "loop",
    "match",
    "mod",
    "mut",
    "new",
    "nil",
    "None",
    "not",
    "null",
    "or",
    "package",
    "pass",
    "private",
    "protected",
    "pub",
    "public",
    "raise",
    "ref",
    "return",
    "self",
    "Self",
    "static",
    "string",
    "String",
    "struct",
    "super",
    "switch",
    "then",
    "this",
    "throw",
    "throws",
    "trait",
    "true",
    "True",
    "try",
    "type",
    "typeof",
    "undefined",
    "unsigned",
    "until",
    "use",
    "var",
    "void",
    "when",
    "where",
    "while",
    "with",
    "yield",
];

/// Words that begin a function, and words that begin another block.
const FUNCTION: [&str; 7] = ["fn", "def", "func", "function", "fun", "sub", "proc"];
const BLOCK: [&str; 17] = [
    "if",
    "else",
    "for",
    "while",
    "switch",
    "match",
    "catch",
    "class",
    "struct",
    "impl",
    "trait",
    "interface",
    "enum",
    "namespace",
    "mod",
    "module",
    "with",
];

/// Words before a name that bind it.
const BINDING: [&str; 27] = [
    "let",
    "mut",
    "const",
    "var",
    "val",
    "static",
    "local",
    "auto",
    "fn",
    "def",
    "func",
    "function",
    "fun",
    "sub",
    "class",
    "struct",
    "enum",
    "trait",
    "interface",
    "type",
    "mod",
    "module",
    "namespace",
    "for",
    "as",
    "union",
    "record",
];

/// Whether the name at the bytes `at` of `text` is bound there: declared, assigned to or taken as
/// a parameter. What is done to a mere use says nothing about other uses.
pub(super) fn binds(text: &str, at: &Range<usize>) -> bool {
    let before = text[..at.start].trim_end_matches([' ', '\t', '&', '*']);
    let word = &before[before.trim_end_matches(super::is_name).len()..];
    if BINDING.contains(&word) {
        return true;
    }
    let line = super::line_of(text, at.start);
    let head = &text[line.start..at.start];
    let after = text[at.end..line.end].trim_start();
    let is_in_list = head.matches('(').count() > head.matches(')').count();
    if is_in_list {
        // A parameter, and no type of one.
        let begins = head.trim_end().ends_with(['(', ',']);
        return begins && opens_function(&text[line.clone()]);
    }
    let assigns = after
        .strip_prefix('=')
        .is_some_and(|rest| !rest.starts_with(['=', '>', '~']));
    assigns || after.starts_with(":=")
}

/// Returns the function around byte `at` of `text` when what stands there is local to it, as far
/// as can be seen: it lies in the parameters or the body, and is no member of something
/// (`a.name`).
pub(super) fn of(text: &str, at: usize) -> Option<Range<usize>> {
    let before = text[..at].chars().next_back();
    if matches!(before, Some('.' | ':' | '>' | '@' | '$')) {
        return None;
    }
    let lines: Vec<Range<usize>> = lines(text).collect();
    let own = lines.partition_point(|line| line.end < at);
    let line = lines.get(own)?;
    let mut indent = indent_of(&text[line.clone()])?;
    let mut head = None;
    // In its own head a function's parameters are local, its name is not.
    let parameters = text[line.clone()].find('(').map(|open| line.start + open);
    if opens_function(&text[line.clone()]) && parameters.is_some_and(|open| at > open) {
        head = Some((own, indent));
    }
    // Upwards from line to line that stands further to the left. The outermost head counts, so
    // that a closure belongs to what it is in.
    for (above, line) in lines[..own].iter().enumerate().rev() {
        if indent == 0 {
            break;
        }
        let line = &text[line.clone()];
        let Some(its) = indent_of(line).filter(|its| *its < indent) else {
            continue;
        };
        indent = its;
        if opens_function(line) {
            head = Some((above, its));
        }
    }
    let (first, indent) = head?;
    let is_outside = |line: &Range<usize>| {
        let line = &text[line.clone()];
        let closes = line.trim_start().starts_with([')', '}', ']', '{']);
        indent_of(line).is_some_and(|its| its <= indent && !closes)
    };
    let after = lines[first + 1..].iter().find(|line| is_outside(line));
    Some(lines[first].start..after.map_or(text.len(), |line| line.start))
}

fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split('\n').map(move |line| {
        let range = start..start + line.len();
        start = range.end + 1;
        range
    })
}

/// Columns of white space before a line; `None` for a blank one.
fn indent_of(line: &str) -> Option<usize> {
    let rest = line.trim_start();
    (!rest.is_empty()).then(|| line.len() - rest.len())
}

/// Whether a line has a word that begins a function, or looks like the head of one in a language
/// without such a word.
fn opens_function(line: &str) -> bool {
    let code = line.trim();
    let words = || {
        let words = code.split(|c: char| !super::is_name(c));
        words.filter(|word| !word.is_empty())
    };
    let is_block = words().next().is_some_and(|first| BLOCK.contains(&first));
    words().any(|word| FUNCTION.contains(&word))
        || !is_block && code.ends_with('{') && code.contains('(') && code.contains(')')
}
