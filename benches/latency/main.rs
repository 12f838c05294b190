//! Measures how fast the real program answers an editor, beside a model of known speed.
//!
//! The release build of `pairwright lsp` is driven over its streams, and asks a scripted model
//! server in this process: one clock sees when a key is written, when the model has the request,
//! when it has answered or was told to stop, and when the answer is read. So the model's own time
//! and the program's can be told apart. The workspace is real code, see [`input`].
//!
//! Not here: how good suggestions are (`benches/completion`).

#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

mod burst;
mod cancel;
mod chat;
mod idle;
mod input;
mod overhead;
mod stage;
mod stale;
mod sustained;
mod table;
mod tasks;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::input::Input;
use crate::table::Table;

/// Measures the latency of ghost text, chat and tasks.
#[derive(Parser)]
struct Args {
    /// Workspace to work in; by default a copy of the sources of this project's dependencies.
    #[arg(long)]
    root: Option<PathBuf>,
    /// As long as the targets say (10,000 cancels, five minutes of typing), instead of a tenth.
    #[arg(long)]
    full: bool,
    /// Only these parts.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Given by `cargo bench`; without effect.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Overhead,
    Building,
    Cancel,
    Burst,
    Sustained,
    Stale,
    Chat,
    Tasks,
    Idle,
}

const PARTS: [Part; 9] = [
    Part::Overhead,
    Part::Building,
    Part::Cancel,
    Part::Burst,
    Part::Sustained,
    Part::Stale,
    Part::Chat,
    Part::Tasks,
    Part::Idle,
];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let input = Input::new(args.root.as_deref())?;
    println!("Input: {input}");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Load before: {}", load.trim());
    let share = |whole: usize| if args.full { whole } else { whole / 10 };
    for part in PARTS {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let mut table = Table::default();
        match part {
            Part::Overhead => overhead::run(&input, &mut table)?,
            Part::Building => overhead::while_building(&input, &mut table)?,
            Part::Cancel => cancel::run(share(10_000), &mut table)?,
            Part::Burst => burst::run(&input, &mut table)?,
            Part::Sustained => sustained::run(&input, share(300), &mut table)?,
            Part::Stale => stale::run(share(10_000), &mut table)?,
            Part::Chat => chat::run(&input, &mut table)?,
            Part::Tasks => tasks::run(&input, &mut table)?,
            Part::Idle => idle::run(&input, &mut table)?,
        }
        println!("\n{table}");
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Load after: {}", load.trim());
    Ok(())
}
