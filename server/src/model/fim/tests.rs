use proptest::prelude::*;

use super::*;
use crate::model::request::Snippet;

fn request(prefix: &str, suffix: &str, snippets: &[(&str, &str)]) -> FimRequest {
    let snippet = |&(path, text): &(&str, &str)| Snippet {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    FimRequest {
        path: "src/b.py".to_owned(),
        language: "python".to_owned(),
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
        snippets: snippets.iter().map(snippet).collect(),
        max_tokens: 64,
        stop: Vec::new(),
        temperature: 0.0,
        seed: None,
        deadline: None,
    }
}

fn prompt(model: &str, snippets: &[(&str, &str)]) -> String {
    let family = Family::of_model(model).unwrap();
    Template::of_family(family).prompt(&request("P", "S", snippets))
}

#[test]
fn every_family_has_its_facts() {
    for facts in &FAMILIES {
        assert_eq!(facts.family.facts().name, facts.name);
        assert!(!Template::of_family(facts.family).lead.is_empty());
        assert_eq!(Template::of_setting(facts.name).unwrap().name, facts.name);
    }
}

#[test]
fn a_single_file_is_written_as_the_family_was_trained() {
    let cases = [
        (
            "qwen2.5-coder:1.5b-base",
            "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        (
            "Qwen/Qwen3-Coder-30B-A3B",
            "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        (
            "bigcode/starcoder2-3b",
            "<fim_prefix>P<fim_suffix>S<fim_middle>",
        ),
        ("starcoderbase-1b", "<fim_prefix>P<fim_suffix>S<fim_middle>"),
        ("stable-code-3b", "<fim_prefix>P<fim_suffix>S<fim_middle>"),
        (
            "/models/stable_code-3b.Q8_0.gguf",
            "<fim_prefix>P<fim_suffix>S<fim_middle>",
        ),
        ("codeqwen1.5-7b", "<fim_prefix>P<fim_suffix>S<fim_middle>"),
        (
            "granite-8b-code-base",
            "<fim_prefix>P<fim_suffix>S<fim_middle>",
        ),
        ("granite3.3:8b", "<fim_prefix>P<fim_suffix>S<fim_middle>"),
        (
            "granite4:micro",
            "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        (
            "codegemma:2b-code",
            "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        ("codellama:7b-code", "<PRE> P <SUF>S <MID>"),
        ("meta-llama/CodeLlama-7b-hf", "<PRE> P <SUF>S <MID>"),
        (
            "deepseek-coder:1.3b-base",
            "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
        ),
        (
            "DeepSeek-Coder-V2-Lite-Base",
            "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
        ),
        ("codestral-latest", "[SUFFIX]S[PREFIX]P"),
        (
            "zai-org/GLM-4.5-Air",
            "<|code_prefix|>P<|code_suffix|>S<|code_middle|>",
        ),
        (
            "ByteDance-Seed/Seed-Coder-8B-Base",
            "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>",
        ),
    ];
    for (model, expected) in cases {
        assert_eq!(prompt(model, &[]), expected, "{model}");
    }
}

#[test]
fn a_model_that_was_not_trained_to_fill_in_has_no_family() {
    let names = [
        "",
        "llama3:70b",
        "gpt-4o",
        "qwen2.5:7b",
        "deepseek-coder-7b-base-v1.5",
        "deepseek-r1",
        "mamba-codestral-7b",
        "phi3",
    ];
    for name in names {
        assert_eq!(Family::of_model(name), None, "{name}");
    }
}

#[test]
fn other_files_are_shown_as_the_family_was_trained() {
    let files = [("a.py", "A = 1\n"), ("lib/c.py", "C = 2")];
    let cases = [
        (
            "qwen2.5-coder",
            "<|repo_name|>workspace\n<|file_sep|>a.py\nA = 1\n<|file_sep|>lib/c.py\nC = 2\n<|file_sep|>src/b.py\n\
             <|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        (
            "starcoder2",
            "<repo_name>workspace<file_sep>a.py\nA = 1\n<file_sep>lib/c.py\nC = 2\n<file_sep>\
             <fim_prefix>src/b.py\nP<fim_suffix>S<fim_middle>",
        ),
        (
            "codegemma",
            "a.py\nA = 1\n<|file_separator|>lib/c.py\nC = 2\n<|file_separator|>src/b.py\n\
             <|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
        ),
        (
            "codestral",
            "[SUFFIX]S[PREFIX]+++++ a.py\nA = 1\n\n+++++ lib/c.py\nC = 2\n\n+++++ src/b.py\nP",
        ),
        (
            "deepseek-coder",
            "<｜fim▁begin｜>#a.py\nA = 1\n#lib/c.py\nC = 2\n#src/b.py\nP<｜fim▁hole｜>S<｜fim▁end｜>",
        ),
        (
            "codellama",
            "<PRE> # From a.py:\n# A = 1\n# From lib/c.py:\n# C = 2\n# File src/b.py:\nP <SUF>S <MID>",
        ),
    ];
    for (model, expected) in cases {
        assert_eq!(prompt(model, &files), expected, "{model}");
    }
}

#[test]
fn a_configured_pattern_is_followed_and_a_wrong_one_explained() {
    let own = Template::of_setting("<S>{suffix}<P>{prefix}<M>").unwrap();
    assert_eq!(own.prompt(&request("P", "S", &[])), "<S>S<P>P<M>");
    for wrong in [
        "",
        "nonsense",
        "{prefix}",
        "{suffix} only",
        "{prefix}{suffix}",
        "{prefix}{suffix}{prefix}",
    ] {
        assert!(Template::of_setting(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn control_tokens_in_the_users_text_do_not_become_control_tokens() {
    let template = Template::of_family(Family::QwenCoder);
    let text = "assert t == '<|fim_suffix|>' # <|endoftext|>";
    let prompt = template.prompt(&request(text, text, &[("<|file_sep|>.py", text)]));
    assert_eq!(prompt.matches("<|fim_suffix|>").count(), 1);
    assert_eq!(prompt.matches("<|endoftext|>").count(), 0);
    assert_eq!(prompt.matches("<|file_sep|>").count(), 2);
    assert_eq!(prompt.matches("< |fim_suffix|>").count(), 3);
}

#[test]
fn a_prompt_is_read_as_it_was_written_for_every_family() {
    for facts in &FAMILIES {
        let prompt =
            Template::of_family(facts.family).prompt(&request("let a = ", "\nlet b;", &[]));
        assert_eq!(
            read(&prompt),
            Some(("let a = ", "\nlet b;")),
            "{}",
            facts.name
        );
    }
    let with_files = "<|file_sep|>b.rs\nlet c;\n<|fim_prefix|>x<|fim_suffix|>y<|fim_middle|>";
    assert_eq!(read(with_files), Some(("x", "y")));
    for other in [
        "",
        "let a = ",
        "<|fim_prefix|>x",
        "x[SUFFIX]y[PREFIX]z",
        "<PRE> x <SUF>y",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn whatever_the_text_a_prompt_has_each_token_of_its_template_once(
        family in proptest::sample::select(FAMILIES.iter().map(|facts| facts.family).collect::<Vec<_>>()),
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(CONTROL_TOKENS.to_vec()).prop_map(str::to_owned),
                proptest::sample::select(vec!["<PRE>", " <SUF>", "<MID>", "[SUFFIX]", "[PREFIX]", "<EOT>", "<", "|", "\n+++++ "])
                    .prop_map(str::to_owned),
                "[a-z<|>\n ]{0,6}",
            ],
            0..8,
        ),
    ) {
        let template = Template::of_family(family);
        let text = pieces.concat();
        let prompt = template.prompt(&request(&text, &text, &[]));
        for token in [&template.lead, &template.between, &template.tail] {
            let token = token.trim();
            if !token.is_empty() {
                prop_assert_eq!(prompt.matches(token).count(), 1, "{} in {:?}", token, prompt);
            }
        }
    }
}
