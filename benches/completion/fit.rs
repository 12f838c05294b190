//! Fits the weights: first how candidates are weighed, then how finished lines are trusted.
//!
//! Both networks are fitted by stochastic gradient descent with a step size per weight that falls
//! with the gradients seen (Adagrad), on examples in random order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;
use pairwright::local::fit::{PrefixExample, StepExample};
use pairwright::local::{Net, Request, Weights};

use crate::cases;
use crate::random::Random;
use crate::tree::Tree;

#[derive(Args)]
pub(crate) struct Options {
    /// Source trees.
    trees: Vec<PathBuf>,
    /// Folder to write the weights to.
    #[arg(long)]
    out: PathBuf,
    /// Steps per tree.
    #[arg(long, default_value_t = 8000)]
    steps: usize,
    /// Cursors per tree for the confidence.
    #[arg(long, default_value_t = 800)]
    cursors: usize,
    /// Times every example is seen.
    #[arg(long, default_value_t = 6)]
    epochs: usize,
    /// Keep the weights of candidates and fit the confidence alone.
    #[arg(long)]
    keep_mixing: bool,
}

/// A fifth of the files is held out for fitting, a tenth for measuring.
const HELD_OUT: usize = 5;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let trees: Vec<Tree> = options
        .trees
        .iter()
        .map(|root| Tree::read(root))
        .collect::<Result<_, _>>()?;
    let mut weights = if options.keep_mixing {
        (*crate::weights(Some(&options.out))?).clone()
    } else {
        Weights::zero()
    };
    if !options.keep_mixing {
        let start = Instant::now();
        let mut examples = Vec::new();
        for found in each(&trees, &|tree| steps(tree, options.steps)) {
            examples.extend(found?);
        }
        println!("{} steps in {:.0?}", examples.len(), start.elapsed());
        fit_mixing(&mut weights.mixing, &mut examples, options.epochs);
        std::fs::create_dir_all(&options.out)?;
        std::fs::write(options.out.join("mixing.bin"), weights.mixing.encode())?;
    }
    let mut examples = Vec::new();
    let fitted = Arc::new(weights.clone());
    for found in each(&trees, &|tree| prefixes(tree, options.cursors, &fitted)) {
        examples.extend(found?);
    }
    fit_confidence(&mut weights.confidence, &mut examples, options.epochs);
    std::fs::write(
        options.out.join("confidence.bin"),
        weights.confidence.encode(),
    )?;
    Ok(())
}

/// Does the same with every tree on all cores; the answers come in the order of the trees.
fn each<T: Send>(
    trees: &[Tree],
    work: &(dyn Fn(&Tree) -> anyhow::Result<T> + Sync),
) -> Vec<anyhow::Result<T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(tree) = trees.get(at) else { break };
                    let answer = work(tree);
                    done.lock()
                        .expect("no thread panics with the lock")
                        .insert(at, answer);
                }
            });
        }
    });
    done.into_inner()
        .expect("no thread panics with the lock")
        .into_values()
        .collect()
}

/// Walks random lines of held-out files.
fn steps(tree: &Tree, n: usize) -> anyhow::Result<Vec<StepExample>> {
    let held = tree.held_out(HELD_OUT);
    let (engine, _) = tree.learn(&held, Arc::new(Weights::zero()))?;
    let mut random = Random::new(&format!("steps:{}", tree.name));
    let pool = cases::lines(&held);
    let mut examples = Vec::new();
    while examples.len() < n && !pool.is_empty() {
        let line = pool[random.below(pool.len())];
        let indent = line.text.len() - line.text.trim_start().len();
        let path = tree.root.join(&line.file.path);
        let text = &line.file.text;
        let below = if random.chance(25) {
            text[line.start..]
                .find('\n')
                .map_or("", |end| &text[line.start + end..])
        } else {
            ""
        };
        let request = Request {
            path: &path,
            before: &text[..line.start + indent],
            after: below,
            open: &[],
        };
        let stem = |letters: usize| {
            if random.chance(30) {
                1 + random.below(letters)
            } else {
                0
            }
        };
        examples.extend(engine.step_examples(&request, &line.text[indent..], stem));
    }
    Ok(examples)
}

fn prefixes(tree: &Tree, n: usize, weights: &Arc<Weights>) -> anyhow::Result<Vec<PrefixExample>> {
    let held = tree.held_out(HELD_OUT);
    let (engine, _) = tree.learn(&held, Arc::clone(weights))?;
    let mut examples = Vec::new();
    let mut random = Random::new(&format!("below:{}", tree.name));
    for case in cases::draw(tree, &held, n, "confidence") {
        let path: &Path = &tree.root.join(&case.file.path);
        let text = &case.file.text;
        let below = if random.chance(25) {
            text[case.at..]
                .find('\n')
                .map_or("", |end| &text[case.at + end..])
        } else {
            ""
        };
        let request = Request {
            path,
            before: &text[..case.at],
            after: below,
            open: &[],
        };
        examples.extend(engine.prefix_examples(&request, case.expected));
    }
    Ok(examples)
}

/// Sums of squared gradients, for the step size of each weight.
struct Steps {
    net: Net,
    seen: Net,
    rate: f32,
}

impl Steps {
    fn new(net: &Net, rate: f32) -> Self {
        let mut net = net.clone();
        let mut random = Random::new("start");
        let mut small = || (random.below(2001) as f32 / 1000.0 - 1.0) * 0.05;
        for row in &mut net.rows {
            row.fill_with(&mut small);
        }
        net.out.fill_with(|| small() * 10.0);
        net.bias.fill(0.1);
        let mut seen = Net::zero(net.own.len());
        let first = 1e-2;
        seen.own.fill(first);
        seen.rows.iter_mut().for_each(|row| row.fill(first));
        seen.bias.fill(first);
        seen.out.fill(first);
        Self { net, seen, rate }
    }

    /// Moves the weights of one thing against `slope`, the derivative of the loss by its score.
    fn learn(&mut self, groups: &[&[u16]], slope: f32) {
        const SHRINK: f32 = 1e-6;
        let mut sum = self.net.start();
        for rows in groups {
            self.net.add(&mut sum, rows);
        }
        let step = |weight: &mut f32, seen: &mut f32, gradient: f32, rate: f32| {
            let gradient = gradient + SHRINK * *weight;
            *seen += gradient * gradient;
            *weight -= rate * gradient / seen.sqrt();
        };
        let rate = self.rate;
        let mut hidden = [0.0; pairwright::local::HIDDEN];
        for (at, h) in sum.hidden.iter().enumerate() {
            if *h > 0.0 {
                hidden[at] = slope * self.net.out[at];
                step(
                    &mut self.net.out[at],
                    &mut self.seen.out[at],
                    slope * h,
                    rate,
                );
                step(
                    &mut self.net.bias[at],
                    &mut self.seen.bias[at],
                    hidden[at],
                    rate,
                );
            }
        }
        for row in groups.iter().flat_map(|rows| rows.iter()) {
            let row = usize::from(*row);
            step(&mut self.net.own[row], &mut self.seen.own[row], slope, rate);
            for (at, gradient) in hidden.iter().enumerate() {
                if *gradient != 0.0 {
                    step(
                        &mut self.net.rows[row][at],
                        &mut self.seen.rows[row][at],
                        *gradient,
                        rate,
                    );
                }
            }
        }
    }

    fn score(&self, groups: &[&[u16]]) -> f32 {
        let mut sum = self.net.start();
        for rows in groups {
            self.net.add(&mut sum, rows);
        }
        self.net.score(&sum)
    }
}

fn fit_mixing(net: &mut Net, examples: &mut [StepExample], epochs: usize) {
    shuffle(examples);
    let (check, learn) = examples.split_at(examples.len() / 20);
    let mut steps = Steps::new(net, 0.1);
    for epoch in 0..epochs {
        let start = Instant::now();
        steps.rate = 0.1 * (1.0 - epoch as f32 / epochs as f32) + 0.01;
        for example in learn {
            for (at, p) in probabilities(&steps, example).into_iter().enumerate() {
                let slope = p - if at == example.right { 1.0 } else { 0.0 };
                if slope.abs() > 1e-4 {
                    steps.learn(&[&example.shared, &example.candidates[at]], slope);
                }
            }
        }
        let (mut loss, mut n_first) = (0.0, 0);
        for example in check {
            let p = probabilities(&steps, example);
            loss -= p[example.right].max(1e-9).ln();
            let best = p
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .map_or(0, |best| best.0);
            n_first += usize::from(best == example.right && best + 1 < p.len());
        }
        let n = check.len() as f32;
        let n_known = check
            .iter()
            .filter(|example| example.right + 1 < example.candidates.len())
            .count();
        println!(
            "mixing, epoch {epoch}: loss {:.4}, next token right {:.4}, among the candidates {:.4}, {:.0?}",
            loss / n,
            n_first as f32 / n,
            n_known as f32 / n,
            start.elapsed()
        );
    }
    *net = steps.net;
}

fn probabilities(steps: &Steps, example: &StepExample) -> Vec<f32> {
    let mut p: Vec<f32> = example
        .candidates
        .iter()
        .map(|rows| steps.score(&[&example.shared, rows]))
        .collect();
    let most = p.iter().copied().fold(f32::MIN, f32::max);
    p.iter_mut().for_each(|p| *p = (*p - most).exp());
    let total: f32 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);
    p
}

fn fit_confidence(net: &mut Net, examples: &mut [PrefixExample], epochs: usize) {
    shuffle(examples);
    let (check, learn) = examples.split_at(examples.len() / 20);
    let mut steps = Steps::new(net, 0.1);
    let probability = |steps: &Steps, example: &PrefixExample| {
        1.0 / (1.0 + (-steps.score(&[&example.rows])).exp())
    };
    for epoch in 0..epochs {
        steps.rate = 0.05 * (1.0 - epoch as f32 / epochs as f32) + 0.003;
        for example in learn {
            let slope = probability(&steps, example) - if example.is_right { 1.0 } else { 0.0 };
            steps.learn(&[&example.rows], slope);
        }
        let loss = |test: fn(&&PrefixExample) -> bool| {
            let chosen: Vec<&PrefixExample> = check.iter().filter(test).collect();
            let losses = chosen.iter().map(|example| {
                let p = probability(&steps, example);
                -if example.is_right { p } else { 1.0 - p }.max(1e-9).ln()
            });
            losses.sum::<f32>() / chosen.len() as f32
        };
        println!(
            "confidence, epoch {epoch}: loss {:.4}, of whole lines {:.4}",
            loss(|_| true),
            loss(|example| example.is_whole)
        );
    }
    *net = steps.net;
}

fn shuffle<T>(items: &mut [T]) {
    let mut random = Random::new("shuffle");
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at + 1));
    }
}
