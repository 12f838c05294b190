//! `pairwright metrics`: what became of chats, tasks and edits in a folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::apply::{open, print_json};
use super::style::{self, harmless, paint};
use crate::edit::worlds::NoDocuments;
use crate::metrics::{Report, Times, report};
use crate::store::now;

/// Milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, clap::Args)]
pub(super) struct MetricsCommand {
    /// Folder that was worked in
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Days to count, back from now
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl MetricsCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = open(&self.root)?;
        let counted = report(&workspace, &NoDocuments, now() - i64::from(self.days) * DAY)?;
        let mut out = anstream::stdout().lock();
        match self.json {
            true => print_json(&mut out, &counted)?,
            false => show(&mut out, &counted, self.days)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(out: &mut impl Write, counted: &Report, days: u16) -> std::io::Result<()> {
    let (tasks, edits) = (&counted.tasks, &counted.edits);
    writeln!(
        out,
        "{}",
        paint(style::TITLE, format!("The last {days} days"))
    )?;
    if counted.modes.is_empty() && edits.applied == 0 {
        return writeln!(out, "  nothing was asked or edited here");
    }
    // One model is the sum of the modes.
    let models = counted.models.iter().filter(|_| counted.models.len() > 1);
    for (name, mode) in counted.modes.iter().chain(models) {
        let cache = mode.cache_hit_rate.map_or_else(String::new, |rate| {
            format!(" ({} from a cache)", percent(rate))
        });
        let cost = match mode.cost {
            0.0 => String::new(),
            cost => format!(", ${cost:.2}"),
        };
        writeln!(
            out,
            "  {:<10} {} sessions, {} tokens read{cache}, {} written{cost}",
            harmless(name),
            mode.sessions,
            mode.input,
            mode.output
        )?;
    }
    if !tasks.states.is_empty() {
        writeln!(out, "  tasks      {}", list(&tasks.states))?;
        writeln!(
            out,
            "  calls      {}, {} failed; {} edits had to be repaired; {} denied; {} asked, {} allowed",
            tasks.calls,
            tasks.calls_failed,
            tasks.repairs,
            tasks.denials,
            tasks.asked,
            tasks.overrides
        )?;
    }
    if tasks.turns > 0 {
        let failures = &tasks.failures;
        writeln!(
            out,
            "  failures   {} edits did not fit, {} were out of scope, {} commands were not allowed, {} tasks went in circles, {} times the same files passed and failed",
            failures.bad_edits,
            failures.out_of_scope,
            failures.unsafe_commands,
            failures.circles,
            failures.flaky_tests
        )?;
        writeln!(
            out,
            "  turns      {}, {} of them by a fallback; tests ran {} times, {} passed",
            tasks.turns, tasks.turns_of_fallbacks, tasks.tests, tasks.tests_passed
        )?;
    }
    let took = [
        ("worked", &tasks.worked, "tasks"),
        (
            "answered",
            &counted.answers,
            "answers in chat, their first words",
        ),
    ];
    for (name, times, what) in took {
        if let Some(Times { n, p50, p95 }) = times {
            let seconds = |ms: &u64| *ms as f64 / 1e3;
            writeln!(
                out,
                "  {name:<10} {n} {what}: half within {:.1} s, 95 % within {:.1} s",
                seconds(p50),
                seconds(p95)
            )?;
        }
    }
    for (why, n) in &tasks.halts {
        writeln!(out, "  halted     {n} × {}", harmless(why))?;
    }
    writeln!(
        out,
        "  hunks      {} proposed, {} accepted, {} rejected{}",
        edits.hunks_proposed,
        edits.hunks_accepted,
        edits.hunks_rejected,
        of(edits.accept_rate, "accepted of those decided")
    )?;
    writeln!(
        out,
        "  edits      {} applied, {} taken back{}{}",
        edits.applied,
        edits.taken_back,
        of(edits.revert_rate, "taken back"),
        of(
            edits.retention,
            "of their lines still there after a day or more"
        )
    )
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    each.join(", ")
}

fn of(rate: Option<f64>, what: &str) -> String {
    rate.map_or_else(String::new, |rate| format!("; {} {what}", percent(rate)))
}

fn percent(rate: f64) -> String {
    format!("{:.0} %", 100.0 * rate)
}
