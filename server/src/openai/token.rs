//! The secret that clients of the completions endpoint show.
//!
//! Holds: it is in a file that only this user can read, and in no log and no error.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, bail};

/// Random bytes in a token that is made here.
const BYTES: usize = 24;
/// The shortest that is taken from a file, and the most of a file that is read.
const SHORTEST: usize = 16;
const LONGEST: u64 = 256;

#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token of the file `path`; makes one where there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or made, others can read it, or what is in it is too short.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("{} could not be made", folder.display()))?;
        }
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        if let Ok(mut file) = options.open(path) {
            let token = Self::generate()?;
            writeln!(file, "{}", token.0)
                .with_context(|| format!("{} could not be written", path.display()))?;
            return Ok(token);
        }
        let unreadable = || format!("{} could not be read", path.display());
        let file = File::open(path).with_context(unreadable)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().with_context(unreadable)?.permissions();
            if mode.mode() & 0o077 != 0 {
                bail!("{} can be read by others: make it 0600", path.display());
            }
        }
        let mut text = String::new();
        file.take(LONGEST)
            .read_to_string(&mut text)
            .with_context(unreadable)?;
        let text = text.trim();
        if text.len() < SHORTEST {
            bail!(
                "{} has no token of {SHORTEST} characters or more",
                path.display()
            );
        }
        Ok(Self(text.to_owned()))
    }

    fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; BYTES];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut bytes)
            .ok()
            .context("there are no random numbers")?;
        let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
        Ok(Self(hex.collect()))
    }

    /// The token itself, to be shown to its user.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is it, in a time that does not tell how much of it was right.
    pub(super) fn is(&self, shown: &str) -> bool {
        // Equality of blake3's hashes takes the same time whatever they are.
        blake3::hash(self.0.as_bytes()) == blake3::hash(shown.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_user_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/token");
        let made = Token::of_file(&path).unwrap();
        assert_eq!(made.reveal().len(), 2 * BYTES);
        assert_eq!(Token::of_file(&path).unwrap().reveal(), made.reveal());
        assert!(made.is(made.reveal()));
        assert!(!made.is(&made.reveal()[1..]));
        assert!(!format!("{made:?}").contains(made.reveal()));
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_others_can_read_or_guess_is_not_taken() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        Token::of_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = Token::of_file(&path).unwrap_err().to_string();
        assert!(open.contains("can be read by others"), "{open}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(Token::of_file(&path).is_err());
    }
}
