//! `pairwright man`: manual pages, from the very arguments that the program reads.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Folder to write a page for each command to; without one, the first page is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, program: clap::Command) -> anyhow::Result<ExitCode> {
        // It has no page of its own.
        let program = program.disable_help_subcommand(true);
        match self.folder {
            None => clap_mangen::Man::new(program).render(&mut anstream::stdout())?,
            Some(folder) => fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(program, &folder))
                .with_context(|| format!("{} cannot be written", folder.display()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
