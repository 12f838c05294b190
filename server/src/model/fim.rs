//! Raw fill-in-the-middle prompts: which control tokens a family of models was trained with, in
//! which order, and how it was shown other files.
//!
//! Holds: a prompt has each control token exactly where the template puts it. Where the user's
//! own text spells one (an editor for tokenizers, a test about prompts), a space is put after
//! the token's first character, in the prompt only: `< |fim_prefix|>`. Not here: taking tokens
//! out of answers (`model::stop`).

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};

use super::request::FimRequest;

/// Models trained with the same control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Qwen2.5-Coder, Qwen3-Coder.
    QwenCoder,
    StarCoder2,
    /// StarCoder, CodeQwen1.5, Stable-Code, and Granite before 4.
    StarCoder,
    Granite4,
    CodeGemma,
    CodeLlama,
    DeepSeekCoder,
    Codestral,
    Glm4,
    SeedCoder,
}

/// How a family is shown pieces of other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherFiles {
    /// As comments at the head of the prefix: understood by every model.
    Comments,
    /// Qwen2.5-Coder technical report, section 3.2: names and files before the prompt.
    QwenRepository,
    /// StarCoder 2 report, section 5.1: files before the prompt, the own path inside it.
    StarCoder2Repository,
    /// CodeGemma prompt documentation: files before the prompt, each ended by a separator.
    SeparatedFiles,
    /// mistral-common: `+++++ path` headings within the prefix.
    PlusHeadings,
    /// DeepSeek-Coder readme: `#path` headings within the prefix.
    HashHeadings,
}

struct FamilyFacts {
    family: Family,
    /// What users write in settings.
    name: &'static str,
    pattern: &'static str,
    other_files: OtherFiles,
    /// What ends a text, the likeliest first.
    ends: &'static [&'static str],
}

/// Patterns are from the models' own documentation; the order of Seed-Coder from its technical
/// report (suffix first), where editors disagree.
const FAMILIES: [FamilyFacts; 10] = [
    FamilyFacts {
        family: Family::QwenCoder,
        name: "qwen2.5-coder",
        pattern: "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        other_files: OtherFiles::QwenRepository,
        ends: &[
            "<|endoftext|>",
            "<|file_sep|>",
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|im_end|>",
        ],
    },
    FamilyFacts {
        family: Family::StarCoder2,
        name: "starcoder2",
        pattern: "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        other_files: OtherFiles::StarCoder2Repository,
        ends: &["<|endoftext|>", "<file_sep>", "<repo_name>"],
    },
    FamilyFacts {
        family: Family::StarCoder,
        name: "starcoder",
        pattern: "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        other_files: OtherFiles::Comments,
        ends: &["<|endoftext|>", "<fim_pad>", "<|end_of_text|>"],
    },
    FamilyFacts {
        family: Family::Granite4,
        name: "granite4",
        pattern: "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        other_files: OtherFiles::Comments,
        ends: &["<|end_of_text|>", "<|fim_pad|>", "<|endoftext|>"],
    },
    FamilyFacts {
        family: Family::CodeGemma,
        name: "codegemma",
        pattern: "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
        other_files: OtherFiles::SeparatedFiles,
        ends: &["<|file_separator|>", "<eos>", "<end_of_turn>"],
    },
    FamilyFacts {
        family: Family::CodeLlama,
        name: "codellama",
        pattern: "<PRE> {prefix} <SUF>{suffix} <MID>",
        other_files: OtherFiles::Comments,
        ends: &[" <EOT>", "<EOT>", "</s>"],
    },
    FamilyFacts {
        family: Family::DeepSeekCoder,
        name: "deepseek-coder",
        pattern: "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
        other_files: OtherFiles::HashHeadings,
        ends: &["<｜end▁of▁sentence｜>", "<|EOT|>"],
    },
    FamilyFacts {
        family: Family::Codestral,
        name: "codestral",
        pattern: "[SUFFIX]{suffix}[PREFIX]{prefix}",
        other_files: OtherFiles::PlusHeadings,
        ends: &["</s>", "\n+++++ ", "[MIDDLE]"],
    },
    FamilyFacts {
        family: Family::Glm4,
        name: "glm4",
        pattern: "<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",
        other_files: OtherFiles::Comments,
        ends: &["<|endoftext|>", "<|user|>", "<|observation|>"],
    },
    FamilyFacts {
        family: Family::SeedCoder,
        name: "seed-coder",
        pattern: "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
        other_files: OtherFiles::Comments,
        ends: &["<[end▁of▁sentence]>", "<[PAD▁TOKEN]>"],
    },
];

/// Spelled by no program except one about language models: control tokens to be found in any
/// answer, whatever the server and model.
pub(super) const CONTROL_TOKENS: [&str; 32] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|EOT|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<|file_separator|>",
    "<|code_prefix|>",
    "<|code_suffix|>",
    "<|code_middle|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|cursor|>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<fim_pad>",
    "<file_sep>",
    "<｜fim▁begin｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁end｜>",
    "<｜end▁of▁sentence｜>",
    "<[fim-prefix]>",
    "<[fim-suffix]>",
    "<[fim-middle]>",
];

impl Family {
    /// Returns the family that a model's name tells: `"Qwen/Qwen2.5-Coder-7B"`,
    /// `"qwen2.5-coder:1.5b-base"`, `"/models/starcoder2-3b.Q8_0.gguf"`.
    pub fn of_model(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let has = |part: &str| name.contains(part);
        // The most telling parts first: "codeqwen" is no Qwen2.5, v1.5 of DeepSeek-Coder and
        // Mamba-Codestral were not trained to fill in.
        let family = if has("codegemma") {
            Self::CodeGemma
        } else if has("codellama") || has("code-llama") {
            Self::CodeLlama
        } else if has("starcoder2") {
            Self::StarCoder2
        } else if has("starcoder") || has("stable-code") || has("codeqwen") {
            Self::StarCoder
        } else if has("deepseek") {
            let trained = (has("coder") && !has("v1.5")) || has("v2.5") || has("v3");
            return trained.then_some(Self::DeepSeekCoder);
        } else if has("codestral") {
            return (!has("mamba")).then_some(Self::Codestral);
        } else if has("qwen") && has("coder") {
            Self::QwenCoder
        } else if has("granite-4") || has("granite4") {
            Self::Granite4
        } else if has("granite") && (has("code") || has("granite-3") || has("granite3")) {
            Self::StarCoder
        } else if has("seed-coder") || has("seedcoder") {
            Self::SeedCoder
        } else if has("glm-4") || has("glm4") {
            Self::Glm4
        } else {
            return None;
        };
        Some(family)
    }

    fn facts(self) -> &'static FamilyFacts {
        // Holds by the test `every_family_has_its_facts`.
        FAMILIES
            .iter()
            .find(|facts| facts.family == self)
            .unwrap_or(&FAMILIES[0])
    }
}

/// Reads a prompt that another program wrote for one of the families: the text before and after
/// the cursor. `None` where it is no such prompt. What stands before the first control token, as
/// pieces of other files do, is left out. O(prompt).
pub fn read(prompt: &str) -> Option<(&str, &str)> {
    FAMILIES.iter().find_map(|facts| {
        let suffix_first = facts.pattern.find("{suffix}") < facts.pattern.find("{prefix}");
        let mut pieces = facts
            .pattern
            .split("{prefix}")
            .flat_map(|p| p.split("{suffix}"));
        let (lead, between, tail) = (pieces.next()?, pieces.next()?, pieces.next()?);
        let inner = match tail {
            // Nothing tells where such a prompt ends, so it must begin at once.
            "" => prompt.strip_prefix(lead)?,
            tail => prompt.strip_suffix(tail)?.split_once(lead)?.1,
        };
        let (first, second) = inner.split_once(between)?;
        Some(if suffix_first {
            (second, first)
        } else {
            (first, second)
        })
    })
}

/// How to write one prompt out of prefix and suffix.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// What to call it to a person.
    pub(super) name: String,
    lead: String,
    between: String,
    tail: String,
    suffix_first: bool,
    other_files: OtherFiles,
    /// What ends a text, the likeliest first.
    pub(super) ends: Vec<String>,
    spoken: ControlText,
}

impl Template {
    pub(super) fn of_family(family: Family) -> Self {
        let facts = family.facts();
        let ends = facts.ends.iter().map(|&end| end.to_owned()).collect();
        // Holds by the test `every_family_has_its_facts`.
        Self::parse(facts.name, facts.pattern, facts.other_files, ends)
            .unwrap_or_else(|_| Self::prefix_only())
    }

    /// Returns the template a setting names: a family's name, or a pattern of its own.
    ///
    /// # Errors
    /// A clause that says what is wrong with it.
    pub(super) fn of_setting(setting: &str) -> Result<Self, String> {
        if setting.contains('{') {
            return Self::parse(
                "the configured template",
                setting,
                OtherFiles::Comments,
                Vec::new(),
            );
        }
        let named = FAMILIES
            .iter()
            .find(|facts| facts.name.eq_ignore_ascii_case(setting.trim()));
        match named
            .map(|facts| facts.family)
            .or_else(|| Family::of_model(setting))
        {
            Some(family) => Ok(Self::of_family(family)),
            None => {
                let names: Vec<&str> = FAMILIES.iter().map(|facts| facts.name).collect();
                Err(format!(
                    "it is neither one of {} nor a pattern with {{prefix}} and {{suffix}}",
                    names.join(", ")
                ))
            }
        }
    }

    /// The text before the cursor alone, for servers that know no other way.
    pub(super) fn prefix_only() -> Self {
        Self {
            name: "the text before the cursor".to_owned(),
            lead: String::new(),
            between: String::new(),
            tail: String::new(),
            suffix_first: false,
            other_files: OtherFiles::Comments,
            ends: Vec::new(),
            spoken: ControlText::new(&[]),
        }
    }

    pub(super) fn is_prefix_only(&self) -> bool {
        self.lead.is_empty() && self.between.is_empty() && self.tail.is_empty()
    }

    fn parse(
        name: &str,
        pattern: &str,
        other_files: OtherFiles,
        ends: Vec<String>,
    ) -> Result<Self, String> {
        let (Some(prefix), Some(suffix)) = (pattern.find("{prefix}"), pattern.find("{suffix}"))
        else {
            return Err("a pattern needs both {prefix} and {suffix}".to_owned());
        };
        let hole = "{prefix}".len();
        let (first, second) = (prefix.min(suffix), prefix.max(suffix));
        let pieces = [
            &pattern[..first],
            &pattern[first + hole..second],
            &pattern[second + hole..],
        ];
        if pieces
            .iter()
            .any(|piece| piece.contains("{prefix}") || piece.contains("{suffix}"))
        {
            return Err("a pattern has {prefix} and {suffix} once each".to_owned());
        }
        if pieces.iter().all(|piece| piece.trim().is_empty()) {
            return Err(
                "a pattern needs the model's control tokens around {prefix} and {suffix}"
                    .to_owned(),
            );
        }
        let [lead, between, tail] = pieces.map(str::to_owned);
        let mut tokens: Vec<String> = [&lead, &between, &tail]
            .into_iter()
            .map(|piece| piece.trim().to_owned())
            .collect();
        tokens.extend(ends.iter().cloned());
        Ok(Self {
            name: name.to_owned(),
            lead,
            between,
            tail,
            suffix_first: suffix < prefix,
            other_files,
            ends,
            spoken: ControlText::new(&tokens),
        })
    }

    /// The control tokens of this template besides [`CONTROL_TOKENS`].
    pub(super) fn tokens(&self) -> &[String] {
        &self.spoken.own
    }

    /// Writes the prompt. O(text).
    pub(super) fn prompt(&self, request: &FimRequest) -> String {
        let safe = |text| self.spoken.neutralise(text);
        let (before, heading) = self.other_files(request);
        let (prefix, suffix) = (safe(&request.prefix), safe(&request.suffix));
        if self.is_prefix_only() {
            return format!("{heading}{prefix}");
        }
        let parts: [&str; 7] = if self.suffix_first {
            [
                &before,
                &self.lead,
                &suffix,
                &self.between,
                &heading,
                &prefix,
                &self.tail,
            ]
        } else {
            [
                &before,
                &self.lead,
                &heading,
                &prefix,
                &self.between,
                &suffix,
                &self.tail,
            ]
        };
        parts.concat()
    }

    /// Returns what goes before the whole prompt, and what goes before the prefix.
    fn other_files(&self, request: &FimRequest) -> (String, String) {
        let safe = |text| self.spoken.neutralise(text);
        let mut text = String::new();
        let own_path = safe(&request.path);
        if request.snippets.is_empty() {
            return (String::new(), String::new());
        }
        if self.other_files == OtherFiles::Comments {
            return (String::new(), comments(request, &safe));
        }
        match self.other_files {
            OtherFiles::QwenRepository => text.push_str("<|repo_name|>workspace\n"),
            OtherFiles::StarCoder2Repository => text.push_str("<repo_name>workspace"),
            OtherFiles::Comments
            | OtherFiles::SeparatedFiles
            | OtherFiles::PlusHeadings
            | OtherFiles::HashHeadings => {}
        }
        for snippet in &request.snippets {
            let (path, body) = (safe(&snippet.path), safe(&snippet.text));
            let body = body.trim_end_matches('\n');
            let file = match self.other_files {
                OtherFiles::QwenRepository => format!("<|file_sep|>{path}\n{body}\n"),
                OtherFiles::StarCoder2Repository => format!("<file_sep>{path}\n{body}\n"),
                OtherFiles::SeparatedFiles => format!("{path}\n{body}\n<|file_separator|>"),
                OtherFiles::PlusHeadings => format!("+++++ {path}\n{body}\n\n"),
                OtherFiles::HashHeadings | OtherFiles::Comments => format!("#{path}\n{body}\n"),
            };
            text.push_str(&file);
        }
        match self.other_files {
            OtherFiles::QwenRepository => {
                (format!("{text}<|file_sep|>{own_path}\n"), String::new())
            }
            OtherFiles::StarCoder2Repository => {
                (format!("{text}<file_sep>"), format!("{own_path}\n"))
            }
            OtherFiles::SeparatedFiles => (format!("{text}{own_path}\n"), String::new()),
            OtherFiles::PlusHeadings => (String::new(), format!("{text}+++++ {own_path}\n")),
            OtherFiles::HashHeadings | OtherFiles::Comments => {
                (String::new(), format!("{text}#{own_path}\n"))
            }
        }
    }
}

/// Returns the prefix with pieces of other files before it as comments: the form for servers
/// that write the prompt themselves and have no place for other files.
pub(super) fn prefix_with_comments(request: &FimRequest, spoken: &ControlText) -> String {
    let safe = |text| spoken.neutralise(text);
    format!("{}{}", comments(request, &safe), safe(&request.prefix))
}

fn comments<'a>(request: &'a FimRequest, safe: &dyn Fn(&'a str) -> Cow<'a, str>) -> String {
    let Some(mark) = line_comment(&request.language) else {
        return String::new();
    };
    let mut text = String::new();
    for snippet in &request.snippets {
        text.push_str(&format!("{mark} From {}:\n", safe(&snippet.path)));
        for line in safe(&snippet.text).lines() {
            text.push_str(mark);
            if !line.is_empty() {
                text.push(' ');
                text.push_str(line);
            }
            text.push('\n');
        }
    }
    if !request.snippets.is_empty() {
        text.push_str(&format!("{mark} File {}:\n", safe(&request.path)));
    }
    text
}

/// What begins a comment that ends with the line, by LSP language identifier. Unknown languages
/// get no snippets rather than wrong ones.
fn line_comment(language: &str) -> Option<&'static str> {
    Some(match language {
        "c" | "cpp" | "objective-c" | "objective-cpp" | "cuda-cpp" | "csharp" | "dart"
        | "fsharp" | "go" | "groovy" | "java" | "javascript" | "javascriptreact" | "jsonc"
        | "kotlin" | "less" | "php" | "proto" | "rust" | "scala" | "scss" | "solidity"
        | "swift" | "typescript" | "typescriptreact" | "v" | "verilog" | "zig" => "//",
        "cmake" | "coffeescript" | "crystal" | "dockerfile" | "elixir" | "fish" | "graphql"
        | "julia" | "makefile" | "nim" | "nix" | "perl" | "powershell" | "python" | "r"
        | "ruby" | "shellscript" | "sh" | "bash" | "tcl" | "terraform" | "toml" | "yaml"
        | "zsh" => "#",
        "ada" | "elm" | "haskell" | "lua" | "sql" | "vhdl" => "--",
        "clojure" | "commonlisp" | "elisp" | "lisp" | "racket" | "scheme" => ";;",
        "erlang" | "latex" | "matlab" | "prolog" | "tex" => "%",
        "fortran" | "fortran-modern" => "!",
        "vb" => "'",
        "vim" => "\"",
        _ => return None,
    })
}

/// The control tokens a server would read out of a prompt.
#[derive(Debug, Clone)]
pub(super) struct ControlText {
    own: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl ControlText {
    /// [`CONTROL_TOKENS`] and `own`.
    pub(super) fn new(own: &[String]) -> Self {
        let own: Vec<String> = own
            .iter()
            .filter(|token| !token.trim().is_empty())
            .cloned()
            .collect();
        let all = CONTROL_TOKENS
            .iter()
            .copied()
            .chain(own.iter().map(String::as_str));
        // Building fails only for more patterns than memory holds.
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(all)
            .ok();
        Self { own, finder }
    }

    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }

    /// For servers that read no control tokens out of a text.
    pub(super) fn none() -> Self {
        Self {
            own: Vec::new(),
            finder: None,
        }
    }

    /// Returns `text` with a space after the first character of every control token, so that
    /// it is text to the server as it is to the user. O(text).
    pub(super) fn neutralise<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(finder) = &self.finder else {
            return Cow::Borrowed(text);
        };
        if !finder.is_match(text) {
            return Cow::Borrowed(text);
        }
        let mut safe = String::with_capacity(text.len() + 16);
        let mut from = 0;
        for found in finder.find_iter(text) {
            let first = text[found.start()..]
                .chars()
                .next()
                .map_or(0, char::len_utf8);
            safe.push_str(&text[from..found.start() + first]);
            safe.push(' ');
            from = found.start() + first;
        }
        safe.push_str(&text[from..]);
        Cow::Owned(safe)
    }
}

#[cfg(test)]
mod tests;
