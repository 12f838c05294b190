//! Measures edits: finding and splitting into hunks, writing durably, reading long answers.
//!
//! Everything runs on made-up files, so that it can be repeated anywhere. Times are of the wall
//! clock, with those of the thread's own CPU beside them, for machines that others use too.

#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use pairwright::edit::hunks::Proposal;
use pairwright::edit::parse::{EditSet, Format, Parser, parse};
use pairwright::edit::path::RepoPath;
use pairwright::edit::plan::{Options, plan};
use pairwright::edit::rollback::Mode;
use pairwright::edit::tree::MemoryTree;
use pairwright::edit::workspace::{Choice, Workspace};
use pairwright::edit::worlds::NoDocuments;

const LINES: usize = 10_000;
const ROUNDS: usize = 1_000;
const COMMITS: usize = 60;

fn main() -> anyhow::Result<()> {
    println!("| what | input | p50 ms | p99 ms | CPU p50 ms | CPU p99 ms |");
    println!("|---|---|---|---|---|---|");
    locate();
    durable()?;
    long_answers();
    Ok(())
}

/// Lines as code has them: some unlike all others, many that repeat.
fn source(salt: usize) -> Vec<String> {
    let line = |n: usize| match n % 8 {
        0 => format!("fn item_{salt}_{n}(left: u32, right: u32) -> u32 {{"),
        1 => "    let mut total = 0;".to_owned(),
        2 => format!("    for step in 0..{} {{", n % 97),
        3 => format!("        total += left * {} + right;", n % 13),
        4 => "    }".to_owned(),
        5 => "    total".to_owned(),
        6 => "}".to_owned(),
        _ => String::new(),
    };
    (0..LINES).map(line).collect()
}

/// A block around line `at`, found by its heading line or, `hard`, only after its indentation.
fn block(path: &str, lines: &[String], at: usize, hard: bool) -> String {
    let at = at / 8 * 8;
    let old = &lines[at..at + 6];
    let text = |lines: &[String]| -> String {
        let shifted = lines.iter().map(|l| {
            if hard {
                format!("  {l}\n")
            } else {
                format!("{l}\n")
            }
        });
        shifted.collect()
    };
    let mut new = old.to_vec();
    new[3] = "        total += left + right;".to_owned();
    format!(
        "{path}\n<<<<<<< SEARCH\n{}=======\n{}>>>>>>> REPLACE\n\n",
        text(old),
        text(&new)
    )
}

fn locate() {
    let lines = source(0);
    let path = RepoPath::parse("src/item.rs").expect("a plain path");
    let mut tree = MemoryTree::default();
    let text = lines.join("\n") + "\n";
    tree.files.insert(path, text.into_bytes());
    for (what, n_blocks, hard) in [
        ("locate + hunks, 1 block", 1, false),
        ("locate + hunks, 10 blocks", 10, false),
        ("locate + hunks, 1 block indented otherwise", 1, true),
    ] {
        let mut times = Times::default();
        for round in 0..ROUNDS {
            let at = |n: usize| (round * 7919 + n * 1013) % (LINES - 8);
            let answer: String = (0..n_blocks)
                .map(|n| block("src/item.rs", &lines, at(n), hard))
                .collect();
            let edits = parse(&answer, Format::Auto).expect("the answer is well formed");
            times.measure(|| {
                let plan = plan(&edits, &tree, &Options::default()).expect("the block is there");
                Proposal::new(plan, String::new(), None)
            });
        }
        times.print(what, "10,000 lines");
    }
}

fn durable() -> anyhow::Result<()> {
    // Where the build goes is on a real disk; a temporary folder may be in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (root, state) = (
        directory.path().join("work"),
        directory.path().join("state"),
    );
    fs::create_dir(&root)?;
    for n_files in [1, 10] {
        let files: Vec<(String, Vec<String>)> = (0..n_files)
            .map(|n| (format!("file_{n}.rs"), source(n)[..1000].to_vec()))
            .collect();
        for (path, lines) in &files {
            fs::write(root.join(path), lines.join("\n") + "\n")?;
        }
        let workspace = Workspace::open(&root, &state)?;
        let (mut applying, mut undoing) = (Times::default(), Times::default());
        for round in 0..COMMITS {
            let blocks = files
                .iter()
                .map(|(path, lines)| block(path, lines, round * 8, false));
            let edits: EditSet = parse(&blocks.collect::<String>(), Format::Auto)?;
            let options = Options::default();
            let proposal = workspace.propose(&NoDocuments, &edits, &options, "bench", None)?;
            let choice = Choice::Proposal(proposal.id);
            let done = applying.measure(|| workspace.accept(&NoDocuments, &choice, None))?;
            let token = done.rollback_token.context("files changed")?;
            undoing.measure(|| {
                workspace.rollback(&NoDocuments, token.as_str(), Mode::AllOrNothing, None)
            })?;
        }
        let input = format!("{n_files} file(s) of 1,000 lines, all synced");
        applying.print("apply", &input);
        undoing.print("roll back", &input);
    }
    Ok(())
}

/// Answers of growing length: time per byte must not grow, and what is too long is refused.
fn long_answers() {
    let lines = source(0);
    let unit = block("src/item.rs", &lines, 80, false);
    for mib in [1, 4, 16, 100] {
        let mut times = Times::default();
        let mut n_edits = 0;
        let n_rounds = if mib > 16 { 3 } else { 10 };
        for _ in 0..n_rounds {
            let outcome = times.measure(|| {
                let mut parser = Parser::new(Format::Auto);
                let filler = "prose between edits, as long as it likes to be\n".repeat(200);
                let mut n_bytes = 0;
                while n_bytes < mib << 20 {
                    parser.push(&unit);
                    parser.push(&filler);
                    n_bytes += unit.len() + filler.len();
                }
                parser.finish()
            });
            n_edits = outcome.map_or(0, |set| set.edits.len());
        }
        let input = match n_edits {
            0 => format!("{mib} MiB, refused"),
            n => format!("{mib} MiB, {n} edits"),
        };
        times.print("read an answer", &input);
    }
}

/// Times of many runs, by the wall clock and by the thread's own CPU.
#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    cpu: Vec<Duration>,
}

impl Times {
    fn measure<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), cpu_time());
        let out = run();
        self.cpu.push(cpu_time().saturating_sub(cpu));
        self.wall.push(wall.elapsed());
        out
    }

    fn print(mut self, what: &str, input: &str) {
        let mut at = |share: f64, cpu: bool| {
            let times = if cpu { &mut self.cpu } else { &mut self.wall };
            times.sort_unstable();
            let idx = ((times.len() - 1) as f64 * share).round() as usize;
            times[idx].as_secs_f64() * 1000.0
        };
        println!(
            "| {what} | {input} | {:.2} | {:.2} | {:.2} | {:.2} |",
            at(0.5, false),
            at(0.99, false),
            at(0.5, true),
            at(0.99, true)
        );
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}
