//! `pairwright sandbox doctor`: each tier, tried.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use sandbox_client::service::{self, Key, Workspaces};
use sandbox_client::tier::Tier;
use serde::Serialize;

use super::MachineFiles;
use crate::cli::style::{self, paint};
use crate::sandbox::options;

/// What is tried. The first is what there is where nothing else is asked for.
const TIERS: [Tier; 5] = [
    Tier::Namespace,
    Tier::Gvisor,
    Tier::Vm,
    Tier::VmEmulated,
    Tier::Landlock,
];

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    machines: MachineFiles,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `sandbox doctor` finds.
#[derive(Debug, Serialize)]
struct Report {
    /// What sandboxes are made of where nothing else is asked for; `None` where there are none.
    tier: Option<Tier>,
    label: Option<&'static str>,
    probes: Vec<Probe>,
}

/// One tier, tried.
#[derive(Debug, Serialize)]
struct Probe {
    tier: Tier,
    label: &'static str,
    notes: Vec<String>,
    problem: Option<String>,
    ms: f64,
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut options = options(Workspaces::None, Key::generate()?);
        options.machines = self.machines.into();
        let mut probes = Vec::new();
        for tier in TIERS {
            let started = Instant::now();
            let found = service::probe(&options, tier).await;
            let ms = started.elapsed().as_secs_f64() * 1e3;
            let (notes, problem) = match found {
                Ok(notes) => (notes, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            let label = tier.label();
            probes.push(Probe {
                tier,
                label,
                notes,
                problem,
                ms,
            });
        }
        let usual = probes.first().filter(|probe| probe.problem.is_none());
        let report = Report {
            tier: usual.map(|probe| probe.tier),
            label: usual.map(|probe| probe.label),
            probes,
        };
        let mut out = anstream::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            report.print(&mut out)?;
        }
        Ok(match report.tier {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        })
    }
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for probe in &self.probes {
            let name = probe.tier.name();
            match &probe.problem {
                Some(problem) => writeln!(out, "{} {problem}", paint(style::WARN, name))?,
                None => writeln!(
                    out,
                    "{} {} (made and removed one in {:.0} ms)",
                    paint(style::GOOD, name),
                    probe.label,
                    probe.ms
                )?,
            }
            for note in &probe.notes {
                writeln!(out, "  {note}")?;
            }
        }
        if self.tier.is_none() {
            writeln!(
                out,
                "Commands are refused here. Sandboxes need Linux 5.12 or newer with user namespaces: \
                 see `sysctl kernel.unprivileged_userns_clone user.max_user_namespaces \
                 kernel.apparmor_restrict_unprivileged_userns`."
            )?;
            let weakest = |probe: &&Probe| probe.tier == Tier::Landlock && probe.problem.is_none();
            if self.probes.iter().any(|probe| weakest(&probe)) {
                writeln!(
                    out,
                    "`--tier landlock`, and `sandbox.minIsolation = \"landlock\"` in your settings, accept \
                     the weakest tier."
                )?;
            }
        }
        Ok(())
    }
}
