//! The `pairwright` program.

fn main() -> std::process::ExitCode {
    pairwright::cli::main()
}
