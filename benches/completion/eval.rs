//! Exact match, precision, coverage and cost on held-out files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use pairwright::local::fit::begins_with;
use pairwright::local::{GATE, Request};
use rustix::time::ClockId;

use crate::cases::{self, Case};
use crate::tree::{Tree, cpu};

#[derive(Args)]
pub(crate) struct Options {
    /// Source trees.
    trees: Vec<PathBuf>,
    /// Cursors per tree.
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Let the engine see the text below the cursor's line.
    #[arg(long)]
    below: bool,
    /// Confidence from which the engine speaks.
    #[arg(long, default_value_t = GATE)]
    gate: f32,
    /// Folder of other weights.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Seed of the cursors.
    #[arg(long, default_value = "completion")]
    seed: String,
    /// File for one JSON line per tree, with what was held out, and one per cursor.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What the engine said at one cursor.
struct Answer {
    groups: Vec<String>,
    expected: usize,
    text: String,
    confidence: f32,
    is_exact: bool,
    is_prefix: bool,
    cpu: Duration,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let weights = crate::weights(options.weights.as_ref())?;
    let mut answers = Vec::new();
    let mut json = options
        .json
        .as_ref()
        .map(std::fs::File::create)
        .transpose()?;
    println!(
        "{:24} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "learnt", "MB", "files", "tokens", "ms/MB", "B/B"
    );
    for root in &options.trees {
        let tree = Tree::read(root)?;
        let held = tree.held_out(10);
        let (engine, learning) = tree.learn(&held, weights.clone())?;
        if let Some(json) = &mut json {
            let paths: Vec<&str> = held.iter().map(|file| file.path.as_str()).collect();
            writeln!(
                json,
                "{}",
                serde_json::json!({"tree": tree.name, "held_out": paths})
            )?;
        }
        let status = engine.status();
        let megabytes = status.bytes as f64 / 1e6;
        println!(
            "{:24} {megabytes:8.2} {:8} {:8} {:8.1} {:7.2}",
            tree.name,
            status.files,
            status.tokens,
            learning.as_secs_f64() * 1e3 / megabytes,
            status.memory as f64 / status.bytes as f64,
        );
        for case in cases::draw(&tree, &held, options.n, &options.seed) {
            let Case {
                file, at, expected, ..
            } = case;
            let before = &file.text[..at];
            let below = file.text[at..]
                .find('\n')
                .map_or("", |end| &file.text[at + end..]);
            let path = tree.root.join(&file.path);
            let request = Request {
                path: &path,
                before,
                after: if options.below { below } else { "" },
                open: &[],
            };
            let start = cpu(ClockId::ThreadCPUTime);
            let suggestion = engine.suggest(&request);
            let cpu = cpu(ClockId::ThreadCPUTime) - start;
            let (text, confidence) =
                suggestion.map_or_else(Default::default, |s| (s.text, s.confidence));
            let extension = Path::new(&file.path)
                .extension()
                .map_or(String::new(), |e| e.to_string_lossy().into_owned());
            let comment = if case.is_comment { "comments" } else { "code" };
            if let Some(json) = &mut json {
                let line = serde_json::json!({"tree": tree.name, "path": file.path, "at": at, "kind": format!("{:?}", case.kind), "expected": expected, "text": text, "confidence": confidence, "us": cpu.as_micros()});
                writeln!(json, "{line}")?;
            }
            answers.push(Answer {
                groups: vec![
                    "ALL".into(),
                    comment.into(),
                    format!("kind {:?}", case.kind),
                    format!("lang {extension}"),
                    format!("tree {}", tree.name),
                ],
                expected: expected.len(),
                is_exact: text.trim_end() == expected,
                is_prefix: !text.is_empty() && begins_with(expected, &text),
                text,
                confidence,
                cpu,
            });
        }
    }
    report(&answers, options.gate);
    Ok(())
}

fn report(answers: &[Answer], gate: f32) {
    let mut groups: BTreeMap<(usize, &str), Vec<&Answer>> = BTreeMap::new();
    for answer in answers {
        for (at, group) in answer.groups.iter().enumerate() {
            groups.entry((at, group)).or_default().push(answer);
        }
    }
    println!(
        "\n{:24} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
        format!("gate {gate}"),
        "n",
        "exact",
        "speaks",
        "prec",
        "prefix",
        "wrong",
        "saved",
        "c60",
        "p50",
        "p99",
        "max"
    );
    for ((_, name), group) in groups {
        println!("{name:24} {}", figures(&group, gate));
    }
}

/// One line of figures; times in milliseconds of CPU.
fn figures(group: &[&Answer], gate: f32) -> String {
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let n = group.len();
    let spoken: Vec<&&Answer> = group
        .iter()
        .filter(|a| a.confidence >= gate && !a.text.trim().is_empty())
        .collect();
    let count = |test: fn(&Answer) -> bool| spoken.iter().filter(|answer| test(answer)).count();
    let n_prefix = count(|answer| answer.is_prefix);
    let saved: usize = spoken
        .iter()
        .filter(|a| a.is_prefix)
        .map(|a| a.text.len())
        .sum();
    let mut by_confidence: Vec<&&Answer> =
        group.iter().filter(|a| !a.text.trim().is_empty()).collect();
    by_confidence.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut n_right = 0;
    let mut coverage = 0;
    for (at, answer) in by_confidence.iter().enumerate() {
        n_right += usize::from(answer.is_exact);
        if n_right * 10 >= (at + 1) * 6 {
            coverage = at + 1;
        }
    }
    let mut times: Vec<Duration> = group.iter().map(|a| a.cpu).collect();
    times.sort_unstable();
    let time = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3;
    format!(
        "{n:6} {:6.3} {:6.3} {:6.3} {:6.3} {:6.3} {:6.3} {:6.3} {:6.2} {:6.2} {:6.2}",
        share(group.iter().filter(|a| a.is_exact).count(), n),
        share(spoken.len(), n),
        share(count(|answer| answer.is_exact), spoken.len()),
        share(n_prefix, spoken.len()),
        share(spoken.len() - n_prefix, n),
        share(saved, group.iter().map(|a| a.expected).sum()),
        share(coverage, n),
        time(0.5),
        time(0.99),
        time(1.0),
    )
}
