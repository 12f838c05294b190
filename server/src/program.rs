//! Programs of this machine that the user's own settings name, asked for an answer.
//!
//! Holds: no shell; a bound on the time and on what is read. A program that is given up, or whose
//! asker is gone, is killed. Its arguments and its error stream are in no message: both can hold
//! secrets.
//! Not here: programs that stay (`mcp::program`) and commands of tasks (`sandbox`).

use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// One run of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The program and its arguments.
    pub(crate) argv: &'a [String],
    /// Where it runs; where this server does, unless said.
    pub(crate) folder: Option<&'a Path>,
    /// Further variables of its environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    pub(crate) input: &'a [u8],
    /// Bytes read of its output.
    pub(crate) most: usize,
    pub(crate) patience: Duration,
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) output: Vec<u8>,
    /// `None` when it wrote more than was to be read, and was killed.
    pub(crate) status: Option<ExitStatus>,
}

/// A folder that no repository writes to: a workspace can hold programs and settings that a
/// program takes up where it runs.
pub(crate) fn outside() -> PathBuf {
    std::env::home_dir()
        .filter(|home| home.is_dir())
        .unwrap_or_else(std::env::temp_dir)
}

impl Run<'_> {
    /// Waits for the program's end. Dropping the future kills the program.
    ///
    /// # Errors
    /// A clause that says why there is no answer.
    pub(crate) async fn said(&self) -> Result<Said, String> {
        let program = self.argv.first().map_or("", String::as_str);
        let mut command = Command::new(program);
        command
            .args(self.argv.get(1..).unwrap_or_default())
            .envs(self.variables.iter().copied())
            .stdin(if self.input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().map_err(|error| {
            let kind = error.kind();
            format!("the command {program:?} could not be started ({kind})")
        })?;
        let lost = |error: std::io::Error| {
            let kind = error.kind();
            format!("the command {program:?} was lost ({kind})")
        };
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let telling = async {
            if let Some(mut input) = input {
                // It need not read all of it, or any.
                let _ = input.write_all(self.input).await;
            }
            pending::<Infallible>().await
        };
        let hearing = async {
            let mut said = Vec::new();
            if let Some(output) = output {
                let limit = self.most as u64 + 1;
                output.take(limit).read_to_end(&mut said).await?;
            }
            Ok(said)
        };
        let answering = async {
            // What it has said counts, whether or not it read all it was told; it may go on to read
            // when it says nothing more.
            tokio::pin!(telling);
            let mut output = tokio::select! {
                output = hearing => output.map_err(lost)?,
                never = &mut telling => match never {},
            };
            let status = if output.len() > self.most {
                output.truncate(self.most);
                None
            } else {
                Some(tokio::select! {
                    status = child.wait() => status.map_err(lost)?,
                    never = &mut telling => match never {},
                })
            };
            Ok(Said { output, status })
        };
        match tokio::time::timeout(self.patience, answering).await {
            Ok(said) => said,
            Err(_) => Err(format!(
                "the command {program:?} did not finish within {:?}",
                self.patience
            )),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn run(line: &str, input: &[u8], most: usize) -> Result<(String, Option<i32>), String> {
        let argv = ["sh", "-c", line].map(str::to_owned);
        let run = Run {
            argv: &argv,
            folder: Some(Path::new("/")),
            variables: &[("ASKED", "by a test")],
            input,
            most,
            patience: PATIENCE,
        };
        let said = run.said().await?;
        let code = said.status.and_then(|status| status.code());
        Ok((String::from_utf8_lossy(&said.output).into_owned(), code))
    }

    #[tokio::test]
    async fn a_program_is_told_and_heard_within_bounds() {
        let long = "x".repeat(1 << 20);
        let cases: [(&str, &[u8], &str, Option<i32>); 7] = [
            ("cat; exit 3", b"to it", "to it", Some(3)),
            ("pwd", b"", "/\n", Some(0)),
            ("echo $ASKED", b"", "by a test\n", Some(0)),
            ("echo hidden >&2", b"", "", Some(0)),
            // Reads nothing of what does not fit into a pipe.
            ("echo done", long.as_bytes(), "done\n", Some(0)),
            ("wc -c", long.as_bytes(), "1048576\n", Some(0)),
            ("exec yes", b"", "y\ny\ny\ny\ny\n", None),
        ];
        for (line, input, output, code) in cases {
            let expected = Ok((output.to_owned(), code));
            assert_eq!(
                run(line, input, 10.max(output.len())).await,
                expected,
                "{line}"
            );
        }
    }

    /// A script that logs what it says says nothing to us.
    #[tokio::test]
    async fn a_program_that_stops_talking_is_told_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let line = format!("exec >/dev/null; wc -c >'{}'; exit 3", out.display());
        let long = "x".repeat(1 << 20);
        let said = run(&line, long.as_bytes(), 10).await;
        assert_eq!(said, Ok((String::new(), Some(3))));
        let counted = std::fs::read_to_string(out).unwrap();
        assert_eq!(counted.trim(), "1048576");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_stays_too_long_is_named_without_its_arguments() {
        let told = async |argv: &[&str], patience| {
            let argv: Vec<String> = argv.iter().map(|&part| part.to_owned()).collect();
            let run = Run {
                argv: &argv,
                folder: None,
                variables: &[],
                input: b"",
                most: 10,
                patience,
            };
            run.said().await.unwrap_err()
        };
        assert_eq!(
            told(&["/no/such/program", "hunter2"], PATIENCE).await,
            "the command \"/no/such/program\" could not be started (entity not found)"
        );
        assert_eq!(
            told(&["sleep", "1000"], Duration::from_millis(50)).await,
            "the command \"sleep\" did not finish within 50ms"
        );
        assert!(told(&[], PATIENCE).await.contains("could not be started"));
    }
}
