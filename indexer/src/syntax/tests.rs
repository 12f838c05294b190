use proptest::prelude::*;

use super::{language::Role, *};

fn parse(language: Language, text: &str) -> Parsed {
    Parser::default().parse(language, text)
}

/// Renders what was found: definitions with nesting, then chunks, then imports.
fn outline(language: Language, text: &str) -> String {
    use std::fmt::Write;
    let unit = parse(language, text).unit;
    let mut out = String::new();
    for definition in &unit.definitions {
        let depth =
            std::iter::successors(definition.parent, |&p| unit.definitions[p as usize].parent)
                .count();
        let (kind, name) = (definition.kind, &definition.name);
        let (first, end) = (definition.first_line + 1, definition.end_line);
        writeln!(
            out,
            "{:1$}{kind:?} {name} {first}-{end} | {2}",
            "",
            depth * 2,
            definition.signature
        )
        .unwrap();
    }
    for import in &unit.imports {
        writeln!(out, "import {import}").unwrap();
    }
    out
}

#[test]
fn every_query_compiles_and_starts_at_real_node_kinds() {
    for language in Language::ALL {
        let Some(spec) = language.spec() else {
            continue;
        };
        assert!(spec.roles.contains(&Role::Root), "{language:?}");
        for pattern in 0..spec.query.pattern_count() {
            assert!(
                spec.query.is_pattern_rooted(pattern),
                "{language:?} pattern {pattern}"
            );
        }
    }
}

#[test]
fn documentation_and_attributes_belong_to_the_definition_below() {
    insta::assert_snapshot!(outline(Language::Rust, "\
use std::{fs, io};

/// A thing.
#[derive(Debug)]
pub struct Thing<T> {
    size: T,
}

impl<T> Thing<T> {
    /// Returns the size.
    pub fn size(&self) -> &T {
        &self.size
    }
}
"), @r"
    Class Thing 3-7 | pub struct Thing<T>
      Field size 6-6 | size: T
    Implementation Thing 9-14 | impl<T> Thing<T>
      Function size 10-13 | pub fn size(&self) -> &T
    import std::{fs, io}
    ");
}

#[test]
fn every_language_gives_its_definitions() {
    let cases = [
        (
            Language::Python,
            "import os\nclass A(B):\n    x = 1\n    def f(self, y):\n        return y\n",
        ),
        (
            Language::JavaScript,
            "const a = require('./a');\nimport b from 'b';\nexport const f = (x) => x;\nclass C { m() {} }\nA.prototype.go = function () {};\n",
        ),
        (
            Language::TypeScript,
            "interface I { n: number; f(): void }\nabstract class D<T> { private x = 1; }\ntype T = I | D;\n",
        ),
        (
            Language::Tsx,
            "export function App(): Element { return <b>{x}</b>; }\n",
        ),
        (
            Language::Go,
            "package p\nimport \"fmt\"\ntype S struct { A int }\nfunc (s *S) Do() error { return nil }\n",
        ),
        (
            Language::Java,
            "import a.b.C;\nclass X { int n; X() {} void go(int a) {} }\n",
        ),
        (
            Language::C,
            "#include \"a.h\"\n#define MAX 3\nstruct s { int a; };\nstatic int *f(void) { return 0; }\nint g(int);\n",
        ),
        (
            Language::Cpp,
            "namespace n { template <class T> class V { void f(); }; }\nint V::g() { return 1; }\n",
        ),
        (
            Language::CSharp,
            "using System;\nnamespace N { class A { int P { get; } void M() {} } }\n",
        ),
        (
            Language::Ruby,
            "require 'set'\nmodule M\n  class C < D\n    X = 1\n    def go!(a); end\n    def self.k; end\n  end\nend\n",
        ),
        (
            Language::Php,
            "<?php\nuse A\\B;\nclass C { private $x; function m() {} }\n",
        ),
        (
            Language::Swift,
            "import Foundation\nprotocol P { func f() }\nextension Int { func g() -> Int { 1 } }\nstruct S { let a = 1 }\n",
        ),
        (
            Language::Kotlin,
            "import a.b\nclass K(val n: Int) { fun go() {} }\nobject O\n",
        ),
        (
            Language::Scala,
            "import a.b.c\nobject O { def f(x: Int): Int = x; val y = 1 }\ntrait T\n",
        ),
        (
            Language::Lua,
            "local x = require(\"x\")\nfunction M.go(a) end\nlocal function f() end\nM.h = function() end\n",
        ),
        (
            Language::Bash,
            "source ./lib.sh\nNAME=1\ngo() { echo hi; }\n",
        ),
        (Language::Html, "<div id=\"main\"></div>\n"),
        (Language::Css, ".card { color: red }\n"),
        (Language::Json, "{\"name\": \"x\", \"deps\": {\"a\": 1}}\n"),
        (Language::Yaml, "on: push\njobs:\n  a: 1\n"),
        (Language::Toml, "[package]\nname = \"x\"\n[[bin]]\n"),
        (Language::Markdown, "# Title\n\ntext\n\n## Part\n"),
    ];
    let outlines: Vec<_> = cases
        .iter()
        .map(|(l, text)| format!("== {l:?}\n{}", outline(*l, text)))
        .collect();
    insta::assert_snapshot!(outlines.concat());
}

#[test]
fn chunks_are_functions_and_cover_every_line_that_says_something() {
    let body = "    work();\n".repeat(20);
    let text = format!(
        "const A: u8 = 1;\n\n/// First.\nfn first() {{\n{body}}}\n\nfn second() {{\n{body}}}\n"
    );
    let unit = parse(Language::Rust, &text).unit;
    let chunks: Vec<_> = unit
        .chunks
        .iter()
        .map(|c| {
            (
                c.first_line,
                c.end_line,
                c.definition
                    .map(|d| unit.definitions[d as usize].name.as_str()),
            )
        })
        .collect();
    assert_eq!(chunks, [(0, 25, Some("first")), (26, 48, Some("second"))]);
}

#[test]
fn names_in_comments_are_not_references() {
    let unit = parse(Language::Rust, "// mention_me\nfn f() { use_me(); }\n").unit;
    let has = |name: &str| {
        let hash = crate::path::name_hash(name.as_bytes());
        unit.identifiers.iter().any(|i| i.hash == hash)
    };
    assert!(has("use_me"));
    assert!(!has("mention_me"));
    assert!(!has("fn"));
}

#[test]
fn deep_nesting_is_survived() {
    for (language, open, close) in [
        (Language::JavaScript, "[", "]"),
        (Language::C, "(", ")"),
        (Language::Json, "[", "]"),
        (Language::Rust, "{", "}"),
    ] {
        let text = format!("x = {}{};\n", open.repeat(100_000), close.repeat(100_000));
        let parsed = parse(language, &text);
        assert_eq!(parsed.unit.n_lines, 1, "{language:?}");
    }
}

#[test]
fn what_is_nested_in_much_is_told_with_the_nearest_names() {
    let depth = 500;
    let mut text: String = (0..depth).map(|n| format!("mod around_{n} {{\n")).collect();
    for n in 0..1_000 {
        text += &format!("fn b{n}() {{{}}}\n", "\n".repeat(12));
    }
    text += &"}\n".repeat(depth as usize);
    let parsed = parse(Language::Rust, &text);
    assert!(parsed.unit.definitions.len() > 1_000);
    let chunks = parsed.unit.chunks.iter().zip(&parsed.terms);
    let of_functions = chunks.filter(|(chunk, _)| chunk.first_line > depth);
    let longest = of_functions.map(|(_, terms)| terms.symbols.text.len());
    assert!(longest.max().unwrap() < 1_000);
    let last = parsed.unit.definitions.len() as u32 - 1;
    let name = parsed.unit.qualified_name(last);
    assert!(name.ends_with("::around_499::b999"), "{name}");
    assert!(name.len() < 400, "{name}");
}

#[test]
fn one_line_of_a_megabyte_gives_a_bounded_chunk() {
    let text = "var a1=b2+c3;".repeat(120_000);
    let parsed = parse(Language::JavaScript, &text);
    assert_eq!(parsed.outcome, ParseOutcome::NotParsed);
    assert_eq!(parsed.unit.chunks.len(), 1);
    assert!(parsed.unit.chunks[0].n_terms <= 4_003);
}

#[test]
fn header_language_follows_its_content() {
    let detect = |name, head| Language::detect(name, head);
    assert_eq!(detect("a.h", "int f(void);"), Language::C);
    assert_eq!(detect("a.h", "namespace x {"), Language::Cpp);
    assert_eq!(detect("run", "#!/usr/bin/env python3\n"), Language::Python);
    assert_eq!(detect("LICENSE", "Copyright"), Language::Text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_text_in_any_language_gives_ordered_chunks_and_valid_parents(
        language in proptest::sample::select(Language::ALL.to_vec()),
        text in "([a-z(){}<>;:=\"'#/*\n\t .\\[\\]]|fn |class |def |λ|\u{1f600}|\u{0}){0,200}",
    ) {
        let unit = parse(language, &text).unit;
        let mut at = 0;
        for chunk in &unit.chunks {
            prop_assert!(chunk.first_line >= at && chunk.first_line < chunk.end_line);
            prop_assert!(chunk.end_line <= unit.n_lines);
            at = chunk.end_line;
        }
        for (place, definition) in unit.definitions.iter().enumerate() {
            prop_assert!(definition.parent.is_none_or(|parent| (parent as usize) < place));
            prop_assert!(definition.first_line < definition.end_line.max(1));
        }
    }

    /// While code is broken, what is recovered may depend on the way it was reached; once it is
    /// whole again, nothing of the way may be left.
    #[test]
    fn after_any_edits_whole_code_gives_what_a_full_parse_gives(
        edits in proptest::collection::vec((0_usize..400, 0_usize..30, "[a-z(){};\n é]{0,12}"), 1..6),
        n_functions in 1_usize..6,
    ) {
        let mut text = "fn alpha() { beta(1); }\n/// Doc.\nstruct Gamma { delta: u8 }\n".repeat(4);
        let mut parser = Parser::default();
        let (_, mut kept) = parser.reparse(Language::Rust, &text, None);
        for (at, cut, insert) in edits {
            let before = text.clone();
            let start = text.floor_char_boundary(at.min(text.len()));
            let end = text.floor_char_boundary((start + cut).min(text.len())).max(start);
            text.replace_range(start..end, &insert);
            (_, kept) = parser.reparse(Language::Rust, &text, kept.map(|kept| (before.as_str(), kept)));
        }
        let whole = "fn alpha() { beta(1); }\n/// Doc.\nfn gamma() { delta::<u8>() }\n".repeat(n_functions);
        let (parsed, _) = parser.reparse(Language::Rust, &whole, kept.map(|kept| (text.as_str(), kept)));
        prop_assert_eq!(parsed.unit, parse(Language::Rust, &whole).unit);
    }

    /// What is kept of an edited buffer and what is found again are together what is in its tree,
    /// broken or not.
    #[test]
    fn after_every_edit_all_of_the_tree_is_found(
        (language, start) in proptest::sample::select(EDITED.to_vec()),
        edits in proptest::collection::vec(
            (0_usize..600, 0_usize..40, "([a-z(){};:\n\t #\"'/*@]|import x\n|class A|fn b|def c|// d\n){0,6}"),
            1..8,
        ),
    ) {
        let mut text = start.repeat(3);
        let mut parser = Parser::default();
        let (_, mut kept) = parser.reparse(language, &text, None);
        for (at, cut, insert) in edits {
            let before = text.clone();
            let start = text.floor_char_boundary(at.min(text.len()));
            let end = text.floor_char_boundary((start + cut).min(text.len())).max(start);
            text.replace_range(start..end, &insert);
            (_, kept) = parser.reparse(language, &text, kept.map(|kept| (before.as_str(), kept)));
            let kept = kept.as_ref().unwrap();
            prop_assert_eq!(&kept.found, &parser.found_in(language, &text, &kept.tree));
        }
    }
}

const EDITED: &[(Language, &str)] = &[
    (
        Language::Rust,
        "use a::b;\n/// Doc.\n#[test]\nfn alpha() { beta(1); } // end\nstruct Gamma { delta: u8 }\n\n",
    ),
    (
        Language::Python,
        "import os\n# note\n@wraps\ndef alpha(x):\n    \"\"\"Doc.\"\"\"\n    return x\n\nclass B:\n    y = 1\n",
    ),
    (
        Language::JavaScript,
        "import {a} from './b'\n/** doc */\nexport const f = (x) => { return x }\nclass C { m() {} }\n",
    ),
    (
        Language::C,
        "#include <stdio.h>\n/* doc */\nint alpha(int x) { return x; }\nstruct s { int a; };\n#define M 1\n",
    ),
];
