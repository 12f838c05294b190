//! What a shell line would run: every simple command in it, wherever it stands.
//!
//! Holds: commands are found in pipes, lists, substitutions, functions and loops, and behind
//! programs that run others (`sudo`, `env`, `xargs`, `sh -c`, `find -exec`). What cannot be told
//! from the text, because it is computed or badly formed, is said to be so and never guessed; so is
//! what the parser takes for plain text and bash might not. Bounded in length and depth.
//! Not here: what is allowed (`policy`).

mod expression;
mod variable;
mod wrapper;

use tree_sitter::{Node, Parser};

use self::wrapper::Inner;
pub(super) use self::wrapper::git_options as wrapper_git_options;
use crate::shown;

/// Longest line that is judged, in bytes.
pub const MAX_LINE: usize = 16 << 10;
/// How deep lines may stand in lines: `sh -c "sh -c '…'"`.
const MAX_DEPTH: usize = 6;
/// Most commands in one line.
const MAX_COMMANDS: usize = 256;

/// Words that are no programs.
const RESERVED: &[&str] = &[
    "!", "[[", "]]", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for",
    "function", "if", "in", "select", "then", "until", "while",
];

/// What the parser knows as no command unless something stands before it.
const DECLARING: &[&str] = &["declare", "export", "let", "local", "readonly", "typeset"];

/// A word as far as the text tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Known(String),
    /// Computed when it runs: a variable, a substitution, a pattern.
    Unknown,
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    /// The first is the program. Never empty.
    pub words: Vec<Word>,
    /// It runs another command, which is listed too.
    pub is_wrapper: bool,
}

/// Everything a shell line would do, as far as can be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub commands: Vec<Simple>,
    /// Files that output is redirected into.
    pub writes: Vec<Word>,
    /// Why the line cannot be judged by its text, in words; empty when it can.
    pub doubts: Vec<String>,
    /// Variables whose values the text does not tell to be numbers.
    computed: Vec<String>,
    /// Variables whose values bash computes as expressions.
    expressed: Vec<String>,
}

impl Word {
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(text) => Some(text),
            Self::Unknown => None,
        }
    }
}

impl Simple {
    /// The program without its folder; `None` when it is computed.
    pub fn program(&self) -> Option<&str> {
        let path = self.words.first()?.known()?;
        path.rsplit('/').next()
    }

    /// The words as they may be remembered; `None` when some are computed.
    pub fn known_words(&self) -> Option<Vec<String>> {
        self.words
            .iter()
            .map(|w| w.known().map(str::to_owned))
            .collect()
    }
}

impl Line {
    /// Reads a line as bash would.
    pub fn read(text: &str) -> Self {
        let mut line = Self::default();
        line.add_text(text, 0);
        if line
            .expressed
            .iter()
            .any(|name| line.computed.contains(name))
        {
            line.doubt(
                "it computes the value of a variable as an expression, which can run commands",
            );
        }
        line
    }

    fn doubt(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !self.doubts.contains(&why) {
            self.doubts.push(why);
        }
    }

    fn add_text(&mut self, text: &str, depth: usize) {
        if text.len() > MAX_LINE || depth > MAX_DEPTH {
            return self.doubt("it is too long or too deep to be read");
        }
        let is_foreign_blank = |c: char| c.is_whitespace() && !matches!(c, ' ' | '\n' | '\t');
        if shown::plain(text, text.len()) != text || text.contains(is_foreign_blank) {
            self.doubt("it has characters that are not shown");
        }
        let mut parser = Parser::new();
        if parser
            .set_language(&tree_sitter_bash::LANGUAGE.into())
            .is_err()
        {
            return self.doubt("there is no reader for shell lines");
        }
        let Some(tree) = parser.parse(text, None) else {
            return self.doubt("it cannot be read");
        };
        if tree.root_node().has_error() {
            self.doubt("it is not well formed");
        }
        self.walk(tree.root_node(), text, depth);
    }

    /// Goes over the whole tree without recursion, which a hostile line could exhaust.
    fn walk(&mut self, root: Node<'_>, text: &str, depth: usize) {
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            match node.kind() {
                "command" => self.add_command(node, text, depth),
                "declaration_command" => self.add_declaration(node, text),
                "unset_command" => self.add_unset(node, text),
                "variable_assignment" => self.add_assignment(node, text),
                "for_statement" => self.add_loop(node, text),
                "expansion" => self.add_expansion(node, text),
                "file_redirect" => self.add_redirect(node, text),
                "heredoc_redirect" => self.add_heredoc(node, text),
                // There, bash reads backslashes once before it reads commands.
                "command_substitution"
                    if slice(node, text).starts_with('`') && slice(node, text).contains('\\') =>
                {
                    self.doubt("a command that is put in has backslashes");
                }
                _ => {}
            }
            self.add_expression(node, text);
            let mut cursor = node.walk();
            let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
            if children.is_empty() && hides_commands(node, text) {
                self.doubt("a text in it may be a command that is put in");
            }
            open.extend(children.into_iter().rev());
        }
    }

    fn add_command(&mut self, node: Node<'_>, text: &str, depth: usize) {
        let mut words = Vec::new();
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            match child.kind() {
                "variable_assignment"
                | "file_redirect"
                | "herestring_redirect"
                | "heredoc_redirect" => {}
                "command_name" => {
                    words.push(child.named_child(0).map_or_else(
                        || Word::Known(slice(child, text).to_owned()),
                        |name| word(name, text),
                    ));
                }
                _ if words.is_empty() => {}
                _ => words.push(word(child, text)),
            }
        }
        self.add_words(words, depth);
    }

    fn add_words(&mut self, words: Vec<Word>, depth: usize) {
        if words.is_empty() {
            return;
        }
        if self.commands.len() >= MAX_COMMANDS || depth > MAX_DEPTH {
            return self.doubt("it is too long or too deep to be read");
        }
        match words[0].known() {
            None => self.doubt("the program it runs is computed"),
            // The parser did not see the loop or the condition that it belongs to.
            Some(program) if RESERVED.contains(&program) => self.doubt("it is not well formed"),
            Some(program) if program.contains('=') || DECLARING.contains(&program) => {
                self.doubt("it sets variables in an unusual place");
            }
            Some(_) => {}
        }
        let simple = Simple {
            words,
            is_wrapper: false,
        };
        self.add_variables(&simple);
        let inner = wrapper::inner(&simple);
        let at = self.commands.len();
        self.commands.push(simple);
        self.commands[at].is_wrapper = !inner.is_empty();
        for inner in inner {
            match inner {
                Inner::Words(words) => self.add_words(words, depth + 1),
                Inner::Text(text) => self.add_text(&text, depth + 1),
                Inner::Assigns(name) => self.computes(&name),
                Inner::Hidden(why) => self.doubt(why),
            }
        }
    }

    fn add_redirect(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let is_write = node
            .children(&mut cursor)
            .any(|c| matches!(c.kind(), ">" | ">>" | "&>" | "&>>" | ">|" | "<>" | ">&"));
        let mut cursor = node.walk();
        let mut destinations = node.children_by_field_name("destination", &mut cursor);
        let to = destinations.next();
        if let (true, Some(to)) = (is_write, to) {
            self.writes.push(word(to, text));
        }
        // The parser takes words of the command for further files: `nice > out ls`.
        if destinations.next().is_some() {
            self.doubt("words of a command stand behind where its output goes");
        }
    }

    /// Where the parser and bash see different ends of a text behind `<<`, one of them runs the rest.
    fn add_heredoc(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let start = node
            .children(&mut cursor)
            .find(|c| c.kind() == "heredoc_start")
            .map_or("", |start| slice(start, text));
        let end = ["'", "\""]
            .iter()
            .find_map(|quote| inside(start, quote, quote))
            .unwrap_or(start);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_literal = end != start;
        let is_unclear = |body: &str| {
            let is_early = body.lines().any(|line| line.trim() == end);
            is_early || !is_literal && (body.contains('`') || body.contains("$("))
        };
        let mut cursor = node.walk();
        let mut parts = node.children(&mut cursor);
        let is_unclear = parts.any(|part| match part.kind() {
            "<<" | "<<-" => false,
            "heredoc_body" => is_unclear(slice(part, text)),
            // More of them in one line.
            _ => slice(part, text).contains("<<"),
        });
        if end.is_empty() || !end.chars().all(is_name) || is_unclear {
            self.doubt("it is not clear where a text in it ends, or what is put in there");
        }
        if node.child_by_field_name("argument").is_some() {
            self.doubt("words of a command stand behind where its input comes from");
        }
    }
}

/// Whether a part that the parser takes for plain text holds what bash could run.
fn hides_commands(leaf: Node<'_>, text: &str) -> bool {
    let source = slice(leaf, text);
    match leaf.kind() {
        "comment" => false,
        "raw_string" | "ansi_c_string" if !is_in_quotes(leaf) => false,
        // Judged as a whole.
        "heredoc_body" => false,
        "`" | "$(" | "$((" | "<(" | ">(" => false,
        // Bash ends a command there.
        "word" if source.contains('\n') => true,
        _ => ["`", "$(", "<(", ">("]
            .iter()
            .any(|sign| source.contains(sign)),
    }
}

/// Whether a quoted text stands in a text that is quoted already, where its quotes mean nothing:
/// `"${a:-'$(b)'}"`.
fn is_in_quotes(leaf: Node<'_>) -> bool {
    let around = std::iter::successors(leaf.parent(), Node::parent);
    let mut kinds = around.map(|node| node.kind());
    let nearest = kinds.find(|kind| {
        matches!(
            *kind,
            "string" | "translated_string" | "command_substitution" | "process_substitution"
        )
    });
    nearest.is_some_and(|kind| !matches!(kind, "command_substitution" | "process_substitution"))
}

fn slice<'t>(node: Node<'_>, text: &'t str) -> &'t str {
    text.get(node.byte_range()).unwrap_or_default()
}

/// Reads a word as the shell hands it to the program.
fn word(node: Node<'_>, text: &str) -> Word {
    let source = slice(node, text);
    if is_harmless(source) {
        return Word::Known(source.to_owned());
    }
    let known = match node.kind() {
        "word" | "number" | "command_name" => plain(source),
        "raw_string" => inside(source, "'", "'").map(str::to_owned),
        "ansi_c_string" => inside(source, "$'", "'")
            .filter(|inner| !inner.contains('\\'))
            .map(str::to_owned),
        "string" => quoted(node, source),
        "concatenation" => {
            let mut cursor = node.walk();
            // Braces may be tokens of their own here.
            let has_pattern = node
                .children(&mut cursor)
                .any(|c| !c.is_named() || c.kind() == "brace_expression");
            let mut cursor = node.walk();
            let parts: Option<Vec<String>> = node
                .named_children(&mut cursor)
                .map(|part| word(part, text).known().map(str::to_owned))
                .collect();
            parts.filter(|_| !has_pattern).map(|p| p.concat())
        }
        _ => None,
    };
    known.map_or(Word::Unknown, Word::Known)
}

/// Whether a shell takes a word as it stands. Empty braces are no pattern.
fn is_harmless(source: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&b);
    !source.is_empty() && source.replace("{}", "").bytes().all(is_plain)
}

fn inside<'t>(source: &'t str, start: &str, end: &str) -> Option<&'t str> {
    source.strip_prefix(start)?.strip_suffix(end)
}

/// A word without quotes; `None` when the shell would expand it.
fn plain(source: &str) -> Option<String> {
    let mut kept = String::with_capacity(source.len());
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(next) => kept.push(next),
                None => return None,
            },
            '*' | '?' | '[' | '{' | '}' | '$' | '`' | '\'' | '"' => return None,
            '~' if kept.is_empty() => return None,
            c => kept.push(c),
        }
    }
    Some(kept)
}

/// A word in double quotes; `None` when something in it is expanded.
fn quoted(node: Node<'_>, source: &str) -> Option<String> {
    let mut cursor = node.walk();
    let is_plain = node
        .named_children(&mut cursor)
        .all(|part| part.kind() == "string_content");
    let inner = inside(source, "\"", "\"")?;
    let mut kept = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('"' | '\\' | '$' | '`')) => kept.extend(chars.next()),
            ('\\', Some('\n')) => {
                chars.next();
            }
            ('$' | '`', _) => return None,
            (c, _) => kept.push(c),
        }
    }
    is_plain.then_some(kept)
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
