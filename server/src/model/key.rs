//! The key of an endpoint: read from the environment or from a program, when first needed.
//!
//! Holds: the program is run without a shell, outside of the workspace, for at most [`PATIENCE`],
//! and not again until the server refuses what it printed; a request that is dropped does not stop
//! it. Neither the key nor what the program wrote to its error stream is ever part of a message.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::endpoint::KeySource;
use super::secret::Secret;
use crate::program::{Run, Said, outside};

/// Time for the program that prints a key: long enough for a person to confirm it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A failed attempt is not repeated sooner than this: keystrokes must not start a program each.
const FAILURE_KEPT: Duration = Duration::from_secs(10);

/// Longest key accepted, in bytes.
const LONGEST: usize = 8 * 1024;

type Outcome = Result<Secret, String>;

/// Reads the key once and keeps it until it is refused.
#[derive(Debug)]
pub(crate) struct KeyRing {
    source: KeySource,
    kept: Mutex<Option<(Instant, Outcome)>>,
    /// The key that was refused last: answers to what was asked with it may still come.
    refused: Mutex<Option<Secret>>,
    /// Held while reading, so that many requests start one program.
    reading: tokio::sync::Mutex<()>,
}

impl KeyRing {
    pub(crate) fn new(source: KeySource) -> Arc<Self> {
        Arc::new(Self {
            source,
            kept: Mutex::new(None),
            refused: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
        })
    }

    /// Returns the key, reading it if it is not known. The error is a clause that says why not.
    pub(crate) async fn key(self: &Arc<Self>) -> Outcome {
        if let Some(outcome) = self.kept() {
            return outcome;
        }
        // A task of its own: the program goes on when the keystroke that wanted it is gone.
        let ring = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let _one_reader = ring.reading.lock().await;
            if let Some(outcome) = ring.kept() {
                return outcome;
            }
            let outcome = read(&ring.source).await;
            *ring.lock() = Some((Instant::now(), outcome.clone()));
            outcome
        });
        reading
            .await
            .unwrap_or_else(|_| Err("reading it failed".to_owned()))
    }

    /// Forgets `refused`, so that the next request reads the key anew. A newer key is kept.
    pub(crate) fn forget(&self, refused: &Secret) {
        let mut kept = self.lock();
        if matches!(&*kept, Some((_, Ok(key))) if key == refused) {
            *kept = None;
        }
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(refused.clone());
    }

    /// Returns the keys that a server may repeat in what it says.
    pub(crate) fn shown(&self) -> impl Iterator<Item = Secret> + use<> {
        let kept = self.lock().as_ref().and_then(|(_, key)| key.clone().ok());
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        kept.into_iter().chain(refused.clone())
    }

    fn kept(&self) -> Option<Outcome> {
        match &*self.lock() {
            Some((_, Ok(key))) => Some(Ok(key.clone())),
            Some((at, Err(why))) if at.elapsed() < FAILURE_KEPT => Some(Err(why.clone())),
            Some((_, Err(_))) | None => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Outcome)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a key. The error is a clause that says why not.
pub(crate) async fn read(source: &KeySource) -> Outcome {
    let text = match source {
        KeySource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(std::env::VarError::NotPresent) => {
                return Err(format!("{} is not set", variable(name)));
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(format!("{} is not text", variable(name)));
            }
        },
        KeySource::Command(argv) => printed_by(argv).await?,
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(match source {
            KeySource::Env(name) => format!("{} is empty", variable(name)),
            KeySource::Command(argv) => format!("the command {:?} printed nothing", program(argv)),
        });
    }
    if HeaderValue::from_str(key).is_err() {
        return Err("it has characters that cannot be sent in a header".to_owned());
    }
    Ok(Secret::new(key))
}

/// Longest part of a variable's name, between underscores; keys have longer ones.
const LONGEST_PART: usize = 19;

/// Names a variable in a message, unless it may be a key that was written where the name belongs.
pub(crate) fn variable(name: &str) -> String {
    let is_ordinary = |part: &str| {
        part.len() <= LONGEST_PART && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    match name.split('_').all(is_ordinary) && crate::secret::redact(name) == name {
        true => format!("the environment variable {name}"),
        false => "the environment variable that `apiKeyEnv` names".to_owned(),
    }
}

async fn printed_by(argv: &[String]) -> Result<String, String> {
    let run = Run {
        argv,
        // A workspace can hold programs and settings that are taken up.
        folder: Some(&outside()),
        variables: &[],
        input: &[],
        most: LONGEST,
        patience: PATIENCE,
    };
    let Said { output, status } = run.said().await?;
    let program = program(argv);
    match status {
        None => Err(format!("the command {program:?} printed more than a key")),
        Some(status) if !status.success() => {
            Err(format!("the command {program:?} failed ({status})"))
        }
        Some(_) => String::from_utf8(output)
            .map_err(|_| format!("the command {program:?} did not print text")),
    }
}

/// The program of a command; its arguments can hold secrets and are never shown.
fn program(argv: &[String]) -> &str {
    argv.first().map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn command(argv: &[&str]) -> Arc<KeyRing> {
        KeyRing::new(KeySource::Command(
            argv.iter().map(|&part| part.to_owned()).collect(),
        ))
    }

    #[tokio::test]
    async fn the_command_runs_once_until_its_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("runs");
        let script = format!("echo run >> '{}'; echo '  key-1  '", log.display());
        let ring = command(&["sh", "-c", &script]);
        let runs = || std::fs::read_to_string(&log).unwrap().lines().count();

        let keys = tokio::join!(ring.key(), ring.key(), ring.key());
        assert_eq!(keys.0.as_ref().map(Secret::expose), Ok("key-1"));
        assert_eq!((keys.0.clone(), keys.0.clone()), (keys.1, keys.2));
        assert_eq!(runs(), 1);

        ring.forget(&Secret::new("another"));
        ring.key().await.unwrap();
        assert_eq!(runs(), 1);

        ring.forget(&Secret::new("key-1"));
        ring.key().await.unwrap();
        assert_eq!(runs(), 2);
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_had_is_explained_without_arguments_or_output() {
        let cases: [(&[&str], &str); 5] = [
            (
                &["/no/such/program", "hunter2"],
                "the command \"/no/such/program\" could not be started (entity not found)",
            ),
            (
                &["sh", "-c", "echo hunter2 >&2; echo hunter2; exit 3"],
                "the command \"sh\" failed (exit status: 3)",
            ),
            (&["true", "hunter2"], "the command \"true\" printed nothing"),
            (
                &["head", "-c", "100000", "/dev/zero"],
                "the command \"head\" printed more than a key",
            ),
            (
                &["printf", "hun\\001ter2"],
                "it has characters that cannot be sent in a header",
            ),
        ];
        for (argv, why) in cases {
            assert_eq!(command(argv).key().await, Err(why.to_owned()));
        }
        let unset = KeyRing::new(KeySource::Env(
            "PAIRWRIGHT_TEST_NO_SUCH_VARIABLE".to_owned(),
        ));
        let why = "the environment variable PAIRWRIGHT_TEST_NO_SUCH_VARIABLE is not set";
        assert_eq!(unset.key().await, Err(why.to_owned()));
        for key in [
            "sk-proj-4fT9aQx2Lm7Zp0bR8c",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "gsk_b7Yx3Qm9Zt2Kp5Wd8Rf1Lc6",
            "AKIAIOSFODNN7EXAMPLE",
        ] {
            let pasted = KeyRing::new(KeySource::Env(key.to_owned()));
            let why = "the environment variable that `apiKeyEnv` names is not set";
            assert_eq!(pasted.key().await, Err(why.to_owned()));
        }
    }

    #[tokio::test]
    async fn the_command_runs_outside_of_the_workspace() {
        let here = std::env::current_dir().unwrap();
        let ring = command(&["sh", "-c", "pwd -P"]);
        let folder = ring.key().await.unwrap();
        let folder = std::path::Path::new(folder.expose());
        assert_eq!(folder, outside().canonicalize().unwrap());
        assert_ne!(folder, here.canonicalize().unwrap());
    }

    #[tokio::test]
    async fn the_command_finishes_although_the_request_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        let made = tokio::process::Command::new("mkfifo")
            .arg(&gate)
            .status()
            .await
            .unwrap();
        assert!(made.success());
        let ring = command(&["cat", gate.to_str().unwrap()]);

        let first = timeout(Duration::from_millis(50), ring.key()).await;
        assert!(first.is_err(), "the command waits for the gate");
        let writer = tokio::task::spawn_blocking(move || std::fs::write(gate, "late-key"));
        let key = timeout(Duration::from_secs(10), ring.key()).await.unwrap();
        assert_eq!(key.as_ref().map(Secret::expose), Ok("late-key"));
        writer.await.unwrap().unwrap();
    }
}
