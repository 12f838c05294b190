//! `pairwright apply`: an answer's edits as a preview, or done.

mod batch;

use std::io;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// Read cases as JSON lines {"id","original","base"?,"target"?,"model_output"} from stdin and
    /// write {"id","outcome","files","error"} for each; no file is touched
    #[arg(long)]
    batch: bool,
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        batch::run(io::stdin().lock(), io::stdout().lock())?;
        Ok(ExitCode::SUCCESS)
    }
}
