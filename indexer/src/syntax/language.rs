//! The languages we know: how a file is recognised, its grammar, its query and its keywords.

use std::sync::OnceLock;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use tree_sitter::{Language as Grammar, Query};

/// A language with a grammar, or `Text` for everything else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Language {
    Text,
    Rust,
    Python,
    JavaScript,
    TypeScript,
    Tsx,
    Go,
    Java,
    C,
    Cpp,
    CSharp,
    Ruby,
    Php,
    Swift,
    Kotlin,
    Scala,
    Lua,
    Bash,
    Html,
    Css,
    Json,
    Yaml,
    Toml,
    Markdown,
}

/// What a node kind means to the walk over a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Plain,
    Comment,
    /// A pattern of the query starts here.
    Root,
}

/// A language's grammar, ready to use.
#[derive(Debug)]
pub(crate) struct LanguageSpec {
    pub(super) grammar: Grammar,
    pub(super) query: Query,
    /// By kind id.
    pub(super) roles: Vec<Role>,
    pub(super) captures: Vec<Capture>,
}

/// What a capture of our queries says about its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Capture {
    Name,
    Definition(super::DefinitionKind),
    Import,
    Comment,
    /// Belongs to the definition below it.
    Attached,
    /// Only looked at by a predicate.
    Predicate,
}

impl Language {
    pub const ALL: [Self; 24] = [
        Self::Text,
        Self::Rust,
        Self::Python,
        Self::JavaScript,
        Self::TypeScript,
        Self::Tsx,
        Self::Go,
        Self::Java,
        Self::C,
        Self::Cpp,
        Self::CSharp,
        Self::Ruby,
        Self::Php,
        Self::Swift,
        Self::Kotlin,
        Self::Scala,
        Self::Lua,
        Self::Bash,
        Self::Html,
        Self::Css,
        Self::Json,
        Self::Yaml,
        Self::Toml,
        Self::Markdown,
    ];

    /// Returns the language of a file by its name, else by the `#!` line in `head`.
    pub(crate) fn detect(file_name: &str, head: &str) -> Self {
        let lower = file_name.to_ascii_lowercase();
        match lower.as_str() {
            "rakefile" | "gemfile" | "vagrantfile" | "podfile" | "fastfile" => return Self::Ruby,
            ".bashrc" | ".bash_profile" | ".profile" | ".zshrc" | "pkgbuild" => return Self::Bash,
            "cargo.lock" | "pipfile" => return Self::Toml,
            "sconstruct" | "sconscript" | "wscript" => return Self::Python,
            "jakefile" => return Self::JavaScript,
            _ => {}
        }
        let extension = lower
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension);
        match extension {
            "rs" => Self::Rust,
            "py" | "pyi" | "pyw" => Self::Python,
            "js" | "mjs" | "cjs" | "jsx" => Self::JavaScript,
            "ts" | "mts" | "cts" => Self::TypeScript,
            "tsx" => Self::Tsx,
            "go" => Self::Go,
            "java" => Self::Java,
            // A C++ grammar reads C headers; the reverse loses classes.
            "c" => Self::C,
            "h" if !looks_like_cpp(head) => Self::C,
            "h" | "cc" | "cpp" | "cxx" | "c++" | "hh" | "hpp" | "hxx" | "h++" | "ipp" | "tpp"
            | "inl" | "cu" | "cuh" => Self::Cpp,
            "cs" => Self::CSharp,
            "rb" | "rake" | "gemspec" | "ru" => Self::Ruby,
            "php" | "phtml" => Self::Php,
            "swift" => Self::Swift,
            "kt" | "kts" => Self::Kotlin,
            "scala" | "sc" | "sbt" => Self::Scala,
            "lua" => Self::Lua,
            "sh" | "bash" | "zsh" | "ksh" | "bats" | "ebuild" => Self::Bash,
            "html" | "htm" | "xhtml" => Self::Html,
            "css" => Self::Css,
            "json" | "jsonc" | "webmanifest" => Self::Json,
            "yaml" | "yml" => Self::Yaml,
            "toml" => Self::Toml,
            "md" | "markdown" | "mdx" => Self::Markdown,
            _ => Self::by_interpreter(head),
        }
    }

    fn by_interpreter(head: &str) -> Self {
        let Some(line) = head.strip_prefix("#!").and_then(|rest| rest.lines().next()) else {
            return Self::Text;
        };
        let program = line
            .split_ascii_whitespace()
            .filter_map(|word| word.rsplit('/').next())
            .find(|word| *word != "env" && !word.starts_with('-'))
            .unwrap_or("");
        match program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
            "sh" | "bash" | "zsh" | "dash" | "ksh" => Self::Bash,
            "python" | "pypy" => Self::Python,
            "node" | "nodejs" => Self::JavaScript,
            "ruby" => Self::Ruby,
            "php" => Self::Php,
            "lua" | "luajit" => Self::Lua,
            _ => Self::Text,
        }
    }

    /// Returns whether files of this language are programs rather than data or prose.
    pub fn is_code(self) -> bool {
        match self {
            Self::Text
            | Self::Html
            | Self::Css
            | Self::Json
            | Self::Yaml
            | Self::Toml
            | Self::Markdown => false,
            Self::Rust
            | Self::Python
            | Self::JavaScript
            | Self::TypeScript
            | Self::Tsx
            | Self::Go
            | Self::Java
            | Self::C
            | Self::Cpp
            | Self::CSharp
            | Self::Ruby
            | Self::Php
            | Self::Swift
            | Self::Kotlin
            | Self::Scala
            | Self::Lua
            | Self::Bash => true,
        }
    }

    /// Returns the grammar and its query, compiled at first use; `None` for `Text`.
    pub(crate) fn spec(self) -> Option<&'static LanguageSpec> {
        static SPECS: [OnceLock<LanguageSpec>; Language::ALL.len()] =
            [const { OnceLock::new() }; Language::ALL.len()];
        let (grammar, queries) = self.sources()?;
        Some(SPECS[self as usize].get_or_init(|| LanguageSpec::new(&grammar.into(), queries)))
    }

    /// Returns whether a word is a keyword, which says nothing about what the code is for.
    pub(crate) fn keywords(self) -> &'static FxHashSet<&'static str> {
        static SETS: [OnceLock<FxHashSet<&'static str>>; Language::ALL.len()] =
            [const { OnceLock::new() }; Language::ALL.len()];
        SETS[self as usize].get_or_init(|| self.keyword_list().split_ascii_whitespace().collect())
    }

    fn sources(self) -> Option<(tree_sitter_language::LanguageFn, &'static [&'static str])> {
        const JAVASCRIPT: &str = include_str!("queries/javascript.scm");
        const TYPESCRIPT: &str = include_str!("queries/typescript.scm");
        const C: &str = include_str!("queries/c.scm");
        Some(match self {
            Self::Text => return None,
            Self::Rust => (
                tree_sitter_rust::LANGUAGE,
                &[include_str!("queries/rust.scm")],
            ),
            Self::Python => (
                tree_sitter_python::LANGUAGE,
                &[include_str!("queries/python.scm")],
            ),
            Self::JavaScript => (tree_sitter_javascript::LANGUAGE, &[JAVASCRIPT]),
            Self::TypeScript => (
                tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
                &[JAVASCRIPT, TYPESCRIPT],
            ),
            Self::Tsx => (
                tree_sitter_typescript::LANGUAGE_TSX,
                &[JAVASCRIPT, TYPESCRIPT],
            ),
            Self::Go => (tree_sitter_go::LANGUAGE, &[include_str!("queries/go.scm")]),
            Self::Java => (
                tree_sitter_java::LANGUAGE,
                &[include_str!("queries/java.scm")],
            ),
            Self::C => (tree_sitter_c::LANGUAGE, &[C]),
            Self::Cpp => (
                tree_sitter_cpp::LANGUAGE,
                &[C, include_str!("queries/cpp.scm")],
            ),
            Self::CSharp => (
                tree_sitter_c_sharp::LANGUAGE,
                &[include_str!("queries/c_sharp.scm")],
            ),
            Self::Ruby => (
                tree_sitter_ruby::LANGUAGE,
                &[include_str!("queries/ruby.scm")],
            ),
            Self::Php => (
                tree_sitter_php::LANGUAGE_PHP,
                &[include_str!("queries/php.scm")],
            ),
            Self::Swift => (
                tree_sitter_swift::LANGUAGE,
                &[include_str!("queries/swift.scm")],
            ),
            Self::Kotlin => (
                tree_sitter_kotlin_ng::LANGUAGE,
                &[include_str!("queries/kotlin.scm")],
            ),
            Self::Scala => (
                tree_sitter_scala::LANGUAGE,
                &[include_str!("queries/scala.scm")],
            ),
            Self::Lua => (
                tree_sitter_lua::LANGUAGE,
                &[include_str!("queries/lua.scm")],
            ),
            Self::Bash => (
                tree_sitter_bash::LANGUAGE,
                &[include_str!("queries/bash.scm")],
            ),
            Self::Html => (
                tree_sitter_html::LANGUAGE,
                &[include_str!("queries/html.scm")],
            ),
            Self::Css => (
                tree_sitter_css::LANGUAGE,
                &[include_str!("queries/css.scm")],
            ),
            Self::Json => (
                tree_sitter_json::LANGUAGE,
                &[include_str!("queries/json.scm")],
            ),
            Self::Yaml => (
                tree_sitter_yaml::LANGUAGE,
                &[include_str!("queries/yaml.scm")],
            ),
            Self::Toml => (
                tree_sitter_toml_ng::LANGUAGE,
                &[include_str!("queries/toml.scm")],
            ),
            Self::Markdown => (
                tree_sitter_md::LANGUAGE,
                &[include_str!("queries/markdown.scm")],
            ),
        })
    }

    fn keyword_list(self) -> &'static str {
        match self {
            Self::Text
            | Self::Html
            | Self::Css
            | Self::Json
            | Self::Yaml
            | Self::Toml
            | Self::Markdown => "",
            Self::Rust => {
                "as async await break const continue crate dyn else enum extern false fn for if \
                 impl in let loop match mod move mut pub ref return self Self static struct super \
                 trait true type unsafe use where while"
            }
            Self::Python => {
                "False None True and as assert async await break class continue def del elif else \
                 except finally for from global if import in is lambda nonlocal not or pass raise \
                 return self cls try while with yield"
            }
            Self::JavaScript | Self::TypeScript | Self::Tsx => {
                "as async await break case catch class const continue debugger declare default \
                 delete do else enum export extends false finally for from function get if \
                 implements import in instanceof interface let new null of private protected \
                 public readonly return set static super switch this throw true try type typeof \
                 undefined var void while with yield"
            }
            Self::Go => {
                "break case chan const continue default defer else fallthrough false for func go \
                 goto if import interface map nil package range return select struct switch true \
                 type var"
            }
            Self::Java | Self::CSharp | Self::Kotlin | Self::Scala => {
                "abstract as assert base boolean break byte case catch char class companion const \
                 continue data def default do double else enum extends false final finally float \
                 for foreach fun get if implements implicit import in init instanceof int \
                 interface internal is lateinit lazy long namespace native new null object open \
                 operator out override package params private protected public readonly record \
                 ref return sealed set short static string struct super suspend switch \
                 synchronized this throw throws trait transient true try type using val var \
                 virtual void volatile when where while with yield"
            }
            Self::C | Self::Cpp => {
                "auto bool break case catch char class const constexpr continue default define \
                 delete do double else endif enum explicit extern false float for friend goto if \
                 ifdef ifndef include inline int long namespace new noexcept nullptr operator \
                 override private protected public register return short signed sizeof static \
                 struct switch template this throw true try typedef typename union unsigned using \
                 virtual void volatile while NULL"
            }
            Self::Ruby => {
                "alias and begin break case class def defined do else elsif end ensure false for \
                 if in module next nil not or redo rescue retry return self super then true undef \
                 unless until when while yield"
            }
            Self::Php => {
                "abstract and array as break callable case catch class clone const continue \
                 declare default do echo else elseif empty enum extends final finally fn for \
                 foreach function global if implements include instanceof interface isset list \
                 match namespace new null or php print private protected public readonly require \
                 return static switch this throw trait try unset use var while true false"
            }
            Self::Swift => {
                "as associatedtype break case catch class continue default defer deinit do else \
                 enum extension fallthrough false fileprivate final for func guard if import in \
                 init inout internal is lazy let mutating nil open operator override private \
                 protocol public repeat return self Self static struct subscript super switch \
                 throw throws true try typealias var weak where while"
            }
            Self::Lua => {
                "and break do else elseif end false for function goto if in local nil not or \
                 repeat return self then true until while"
            }
            Self::Bash => {
                "case do done echo elif else esac exit export fi for function if in local return \
                 select set shift then until while"
            }
        }
    }
}

impl LanguageSpec {
    fn new(grammar: &Grammar, queries: &[&str]) -> Self {
        let source = queries.join("\n");
        let query = Query::new(grammar, &source)
            .expect("because a test compiles the query of every language");
        let captures = query
            .capture_names()
            .iter()
            .map(|name| Capture::named(name))
            .collect();
        let mut roles: Vec<_> = (0..grammar.node_kind_count() as u16)
            .map(|id| match grammar.node_kind_for_id(id) {
                Some(kind) if kind.contains("comment") => Role::Comment,
                Some(_) | None => Role::Plain,
            })
            .collect();
        for pattern in 0..query.pattern_count() {
            let kind = root_kind(&source[query.start_byte_for_pattern(pattern)..]);
            // A name can have several ids (aliases), so all of them are marked.
            for id in 0..grammar.node_kind_count() as u16 {
                if grammar.node_kind_is_named(id) && grammar.node_kind_for_id(id) == Some(kind) {
                    roles[id as usize] = Role::Root;
                }
            }
        }
        Self {
            grammar: grammar.clone(),
            query,
            roles,
            captures,
        }
    }

    pub(super) fn role(&self, kind: u16) -> Role {
        self.roles
            .get(usize::from(kind))
            .copied()
            .unwrap_or(Role::Plain)
    }
}

/// Returns `function_item` of `(function_item name: …`.
fn root_kind(pattern: &str) -> &str {
    let inside = pattern.trim_start_matches(['(', ' ', '\n']);
    let end = inside
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(inside.len());
    &inside[..end]
}

impl Capture {
    fn named(name: &str) -> Self {
        use super::DefinitionKind as Kind;
        match name {
            "name" => Self::Name,
            "import" => Self::Import,
            "comment" => Self::Comment,
            "attached" => Self::Attached,
            "definition.function" => Self::Definition(Kind::Function),
            "definition.method" => Self::Definition(Kind::Method),
            "definition.class" => Self::Definition(Kind::Class),
            "definition.interface" => Self::Definition(Kind::Interface),
            "definition.implementation" => Self::Definition(Kind::Implementation),
            "definition.type" => Self::Definition(Kind::Type),
            "definition.module" => Self::Definition(Kind::Module),
            "definition.constant" => Self::Definition(Kind::Constant),
            "definition.field" => Self::Definition(Kind::Field),
            "definition.macro" => Self::Definition(Kind::Macro),
            "definition.declaration" => Self::Definition(Kind::Declaration),
            "definition.section" => Self::Definition(Kind::Section),
            _ => Self::Predicate,
        }
    }
}

/// Headers named `.h` are C++ when they say so in their first kilobytes.
fn looks_like_cpp(head: &str) -> bool {
    [
        "namespace ",
        "template <",
        "template<",
        "class ",
        "public:",
        "std::",
        "constexpr ",
    ]
    .iter()
    .any(|mark| head.contains(mark))
}
