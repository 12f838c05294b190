//! Fits the embedded completion engine and measures how good it is.
//!
//! `eval DIR…` measures on source trees: a tenth of each tree's files is held out, the rest is
//! learnt, and the engine completes lines of the held-out files at random cursors. `fit DIR…`
//! fits the weights on such trees. README.md tells where trees come from.

#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

mod cases;
mod eval;
mod fit;
mod random;
mod tree;
mod typing;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use pairwright::local::Weights;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Given by `cargo bench`; without effect.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measure quality and cost on source trees.
    Eval(eval::Options),
    /// Fit the weights on source trees.
    Fit(fit::Options),
    /// Simulate typing with suggestions on source trees.
    Type(typing::Options),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Eval(options) => eval::run(&options),
        Command::Fit(options) => fit::run(&options),
        Command::Type(options) => typing::run(&options),
    }
}

/// Reads weights from a folder, or the ones in the source tree when none is given.
fn weights(folder: Option<&PathBuf>) -> anyhow::Result<Arc<Weights>> {
    let shipped = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/local"));
    let folder = folder.unwrap_or(&shipped);
    let read = |name: &str| {
        std::fs::read(folder.join(name))
            .with_context(|| format!("no weights in {}", folder.display()))
    };
    Ok(Arc::new(Weights::decode(
        &read("mixing.bin")?,
        &read("confidence.bin")?,
    )?))
}
