//! Variables that a line sets: those that decide what runs, and those whose values are not told.

use tree_sitter::Node;

use super::{Line, Simple, Word, inside, slice, word};

/// Variables that decide which program or library runs.
const STEERING: &[&str] = &[
    "BASH_ENV",
    "BROWSER",
    "CC",
    "COMPILER_PATH",
    "CXX",
    "EDITOR",
    "ENV",
    "GCC_EXEC_PREFIX",
    "GCONV_PATH",
    "GOFLAGS",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "LESSCLOSE",
    "LESSOPEN",
    "MAKEFILES",
    "MAKEFLAGS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "RIPGREP_CONFIG_PATH",
    "RUBYLIB",
    "RUBYOPT",
    "SHELL",
    "SHELLOPTS",
    "VISUAL",
    "XDG_CONFIG_HOME",
    "ZDOTDIR",
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

impl Line {
    /// A variable gets a value, or loses it.
    pub(super) fn assigns(&mut self, name: &str) {
        let is_steering =
            STEERING.contains(&name) || STEERING_STARTS.iter().any(|start| name.starts_with(start));
        if is_steering {
            self.doubt(format!("it sets {name}, which decides what runs"));
        }
    }

    /// A variable gets a value that the text does not tell to be a number.
    pub(super) fn computes(&mut self, name: &str) {
        self.assigns(name);
        self.computed.push(name.to_owned());
    }

    pub(super) fn add_assignment(&mut self, node: Node<'_>, text: &str) {
        let Some(name) = node.child_by_field_name("name") else {
            return;
        };
        let name = match name.kind() {
            "subscript" => name.child_by_field_name("name").unwrap_or(name),
            _ => name,
        };
        let is_number = |value: Node<'_>| {
            let source = slice(value, text);
            source.bytes().all(|b| b.is_ascii_digit()) || value.kind() == "arithmetic_expansion"
        };
        match node.child_by_field_name("value").is_none_or(is_number) {
            true => self.assigns(slice(name, text)),
            false => self.computes(slice(name, text)),
        }
    }

    /// `export A=b`, `declare`: no program runs, but variables change.
    pub(super) fn add_declaration(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if matches!(child.kind(), "variable_assignment" | "variable_name") {
                continue;
            }
            match word(child, text).known() {
                // `-n` makes another name of a variable, `-i` computes values.
                Some(known) if known.starts_with(['-', '+']) && !known.contains(['n', 'i']) => {}
                Some(known)
                    if known
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_') => {}
                _ => self.doubt("it sets variables whose names or values are computed"),
            }
        }
    }

    pub(super) fn add_unset(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            match word(child, text).known() {
                Some(known) if !known.contains('[') => self.assigns(known),
                _ => self.doubt("it unsets variables whose names are computed"),
            }
        }
    }

    /// `for` and `select`.
    pub(super) fn add_loop(&mut self, node: Node<'_>, text: &str) {
        let Some(name) = node.child_by_field_name("variable") else {
            return;
        };
        let mut cursor = node.walk();
        let mut values = node.children_by_field_name("value", &mut cursor);
        match values.all(|value| value.kind() == "number") {
            true => self.assigns(slice(name, text)),
            false => self.computes(slice(name, text)),
        }
    }

    /// `${A:=b}` sets a variable too, and `${!A}` reads one whose name is computed.
    pub(super) fn add_expansion(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        let has = |sign: &str| children.iter().any(|child| child.kind() == sign);
        let name = children
            .iter()
            .find(|child| child.kind() == "variable_name");
        if has(":=") || has("=") {
            match name {
                Some(name) => self.computes(slice(*name, text)),
                None => self.doubt("it sets variables whose names are computed"),
            }
        }
        let inner = inside(slice(node, text), "${", "}").unwrap_or_default();
        let is_unclear = |c: char| matches!(c, ';' | '|' | '&' | '<' | '>' | '\n');
        if inner.contains(is_unclear) || inner.replace("${", "").contains('{') {
            self.doubt("it is not clear where a value in it ends");
        }
        if has("@") && slice(node, text).ends_with("@P}") {
            self.doubt("it expands the value of a variable once more");
        }
    }

    /// Programs of the shell that set variables: `printf -v A`, `read A`.
    pub(super) fn add_variables(&mut self, simple: &Simple) {
        let arguments = &simple.words[1..];
        let names: &[Word] = match simple.program() {
            Some("printf") => match arguments {
                [first, ..]
                    if first
                        .known()
                        .is_none_or(|w| w.len() > 2 && w.starts_with("-v")) =>
                {
                    return self.doubt("printf may set a variable that is not told");
                }
                [first, name, ..] if first.known() == Some("-v") => std::slice::from_ref(name),
                _ => &[],
            },
            Some("read" | "mapfile" | "readarray" | "getopts" | "let") => arguments,
            // A subscript in a name is computed.
            Some("test" | "[") if arguments.iter().any(|w| w.known() == Some("-v")) => arguments,
            _ => &[],
        };
        for name in names {
            match name.known() {
                Some(name) if name.contains('[') => {
                    self.doubt("it names a part of a variable that is computed");
                }
                Some(name) => {
                    let name = name.split('=').next().unwrap_or(name);
                    self.computes(name);
                }
                None => self.doubt("it sets variables whose names are computed"),
            }
        }
    }
}
