//! The `pairwright` program: arguments in, one of the library's commands out.

fn main() -> anyhow::Result<()> {
    Ok(())
}
