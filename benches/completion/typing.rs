//! A typist who takes every right suggestion: how many keys are left to press.

use std::path::PathBuf;

use clap::Args;
use pairwright::local::fit::begins_with;
use pairwright::local::{GATE, Request};

use crate::cases;
use crate::random::Random;
use crate::tree::Tree;

#[derive(Args)]
pub(crate) struct Options {
    /// Source trees.
    trees: Vec<PathBuf>,
    /// Lines per tree.
    #[arg(long, default_value_t = 150)]
    n: usize,
    #[arg(long, default_value_t = GATE)]
    gate: f32,
    #[arg(long)]
    weights: Option<PathBuf>,
}

#[derive(Default)]
struct Keys {
    without: usize,
    with: usize,
    n_taken: usize,
    n_wrong: usize,
    n_lines: usize,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let weights = crate::weights(options.weights.as_ref())?;
    let mut keys = Keys::default();
    for root in &options.trees {
        let tree = Tree::read(root)?;
        let held = tree.held_out(10);
        let (engine, _) = tree.learn(&held, weights.clone())?;
        let mut random = Random::new(&format!("typing:{}", tree.name));
        let pool: Vec<_> = cases::lines(&held)
            .into_iter()
            .filter(|line| line.text.is_ascii() && !cases::is_comment(&line.file.path, line.text))
            .collect();
        for _ in 0..options.n.min(pool.len()) {
            let line = pool[random.below(pool.len())];
            let path = tree.root.join(&line.file.path);
            let mut column = line.text.len() - line.text.trim_start().len();
            let mut rejected = String::new();
            keys.n_lines += 1;
            keys.without += line.text.len() - column;
            while column < line.text.len() {
                let request = Request {
                    path: &path,
                    before: &line.file.text[..line.start + column],
                    after: "",
                    open: &[],
                };
                let suggestion = engine.suggest(&request);
                let shown = suggestion
                    .as_ref()
                    .and_then(|s| s.confident(options.gate))
                    .filter(|text| text.trim().len() >= 2);
                keys.with += 1;
                match shown {
                    Some(text) if begins_with(&line.text[column..], text) => {
                        keys.n_taken += 1;
                        column += text.len();
                        continue;
                    }
                    Some(text) => {
                        let whole = format!("{}{text}", &line.text[..column]);
                        if whole != rejected {
                            keys.n_wrong += 1;
                            rejected = whole;
                        }
                    }
                    None => {}
                }
                column += 1;
            }
        }
    }
    let n = keys.n_lines as f64;
    println!(
        "gate {}: {} lines, keys saved {:.1} %, taken {:.2} a line, wrong {:.2} a line, right when shown {:.1} %",
        options.gate,
        keys.n_lines,
        100.0 * (1.0 - keys.with as f64 / keys.without as f64),
        keys.n_taken as f64 / n,
        keys.n_wrong as f64 / n,
        100.0 * keys.n_taken as f64 / (keys.n_taken + keys.n_wrong).max(1) as f64,
    );
    Ok(())
}
