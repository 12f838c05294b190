//! What a shell line would run: every simple command in it, wherever it stands.
//!
//! Holds: commands are found in pipes, lists, substitutions, functions and loops, and behind
//! programs that run others (`sudo`, `env`, `xargs`, `sh -c`, `find -exec`). What cannot be told
//! from the text, because it is computed or badly formed, is said to be so and never guessed.
//! Bounded in length and depth.
//! Not here: what is allowed (`policy`).

mod wrapper;

use tree_sitter::{Node, Parser};

use self::wrapper::Inner;
pub(super) use self::wrapper::git_options as wrapper_git_options;

/// Longest line that is judged, in bytes.
pub const MAX_LINE: usize = 16 << 10;
/// How deep lines may stand in lines: `sh -c "sh -c '…'"`.
const MAX_DEPTH: usize = 6;
/// Most commands in one line.
const MAX_COMMANDS: usize = 256;

/// Variables that decide which program or library runs.
const STEERING: &[&str] = &[
    "BASH_ENV",
    "BROWSER",
    "CC",
    "CXX",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "IFS",
    "LESSOPEN",
    "MAKEFLAGS",
    "NODE_OPTIONS",
    "PAGER",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SHELLOPTS",
    "VISUAL",
];
const STEERING_STARTS: &[&str] = &[
    "BASH_FUNC",
    "CARGO_",
    "DYLD_",
    "GIT_",
    "LD_",
    "NPM_CONFIG",
    "RUSTC",
    "npm_config",
];

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
        if text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
        {
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
                "declaration_command" | "unset_command" => self.add_declaration(node, text),
                "variable_assignment" => self.add_assignment(node, text),
                "file_redirect" => self.add_redirect(node, text),
                _ => {}
            }
            let mut cursor = node.walk();
            let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
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
        if words[0] == Word::Unknown {
            self.doubt("the program it runs is computed");
        }
        let simple = Simple {
            words,
            is_wrapper: false,
        };
        let inner = wrapper::inner(&simple);
        let at = self.commands.len();
        self.commands.push(simple);
        self.commands[at].is_wrapper = !inner.is_empty();
        for inner in inner {
            match inner {
                Inner::Words(words) => self.add_words(words, depth + 1),
                Inner::Text(text) => self.add_text(&text, depth + 1),
                Inner::Assigns(name) => self.assigns(&name),
                Inner::Hidden(why) => self.doubt(why),
            }
        }
    }

    /// `export A=b`, `declare`, `unset`: no program runs, but variables change.
    fn add_declaration(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if child.kind() != "variable_assignment" && slice(child, text).contains('=') {
                self.doubt("it sets variables whose names are computed");
            }
        }
    }

    fn add_assignment(&mut self, node: Node<'_>, text: &str) {
        if let Some(name) = node.child_by_field_name("name") {
            self.assigns(slice(name, text));
        }
    }

    fn assigns(&mut self, name: &str) {
        let is_steering =
            STEERING.contains(&name) || STEERING_STARTS.iter().any(|start| name.starts_with(start));
        if is_steering {
            self.doubt(format!("it sets {name}, which decides what runs"));
        }
    }

    fn add_redirect(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let is_write = node
            .children(&mut cursor)
            .any(|c| matches!(c.kind(), ">" | ">>" | "&>" | "&>>" | ">|" | "<>" | ">&"));
        if let (true, Some(to)) = (is_write, node.child_by_field_name("destination")) {
            self.writes.push(word(to, text));
        }
    }
}

fn slice<'t>(node: Node<'_>, text: &'t str) -> &'t str {
    text.get(node.byte_range()).unwrap_or_default()
}

/// Reads a word as the shell hands it to the program.
fn word(node: Node<'_>, text: &str) -> Word {
    let source = slice(node, text);
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

fn inside<'t>(source: &'t str, start: &str, end: &str) -> Option<&'t str> {
    source.strip_prefix(start)?.strip_suffix(end)
}

/// A word without quotes; `None` when the shell would expand it.
fn plain(source: &str) -> Option<String> {
    if source == "{}" {
        return Some(source.to_owned());
    }
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
