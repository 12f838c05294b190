//! The `pairwright` program: arguments in, one of the library's commands out.

use std::io;

use anyhow::Result;

fn main() -> Result<()> {
    pairwright::cli::apply::batch::run(io::stdin().lock(), io::stdout().lock())?;
    Ok(())
}
