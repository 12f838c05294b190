//! `pairwright sandbox capacity`: how many virtual machines a service needs, and how much memory.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use sandbox_client::capacity::{Load, Plan, plan};

#[derive(Debug, clap::Args)]
pub(super) struct Capacity {
    /// Sandboxes that are asked for each minute
    #[arg(long, value_name = "N", value_parser = rate)]
    arrivals: f64,
    /// Seconds that one is used
    #[arg(long, value_name = "S", default_value_t = 300)]
    session: u64,
    /// Sandboxes that are asked for at one moment and are not to wait
    #[arg(long, value_name = "N", default_value_t = 1)]
    burst: u32,
    /// Milliseconds until one is ready
    #[arg(long, value_name = "MS", default_value_t = 500)]
    making: u64,
    /// Private memory of one, in MiB; what its commands use comes on top
    #[arg(long, value_name = "MIB", default_value_t = 60)]
    memory: u64,
    /// Memory that all share, in MiB: what one that has just booted has
    #[arg(long, value_name = "MIB", default_value_t = 100)]
    shared: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    match rate.is_finite() && rate >= 0.0 {
        true => Ok(rate),
        false => Err("it must be 0 or more".to_owned()),
    }
}

impl Capacity {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let plan = plan(&Load {
            arrivals_per_minute: self.arrivals,
            session: Duration::from_secs(self.session),
            burst: self.burst,
            making: Duration::from_millis(self.making),
            bytes_each: self.memory.saturating_mul(1 << 20),
            bytes_shared: self.shared.saturating_mul(1 << 20),
        });
        let mut out = anstream::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&plan)?)?,
            false => print(&mut out, &plan)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, plan: &Plan) -> io::Result<()> {
    let Plan {
        running,
        running_at_most,
        ready,
        bytes,
    } = plan;
    writeln!(
        out,
        "{running} run at a time, {running_at_most} at most but for one moment in a thousand"
    )?;
    writeln!(
        out,
        "{ready} to hold ready (`pairwright sandboxd --ready {ready}`)"
    )?;
    writeln!(
        out,
        "{} MiB of memory, without what commands use",
        bytes >> 20
    )
}
