//! The agent as a program of its own, for machines that have nothing else of Pairwright.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_agent::main_if_asked(std::env::args_os().skip(1)).unwrap_or(ExitCode::from(2))
}
