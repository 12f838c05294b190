//! Which folders the user trusts.
//!
//! Holds: a folder has no say in it. Where `workspace.trusted` is set it decides alone; elsewhere the
//! user's word does, given once and kept in the state directory. A word about a folder holds for all
//! below it, the nearest one first. Links are resolved before paths are compared. What cannot be
//! read trusts nothing.
//! Not here: asking (the faces do), what depends on it (`config::current`, `agent`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sources::Directories;
use crate::error::{Kind, UserError};
use crate::shown::printable;

/// Name of the file in the state directory.
const FILE: &str = "trust.json";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the user said of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Trusted,
    Refused,
}

/// Whether a folder is trusted, and whether it is worth asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Trusted,
    /// The user said no, when asked.
    Refused,
    /// Nobody was asked yet.
    Unknown,
    /// `workspace.trusted` is set and does not name it.
    Excluded,
}

/// Words about folders, by their real paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Words {
    folders: BTreeMap<PathBuf, Word>,
}

/// Who is trusted: the setting, and the user's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The setting `workspace.trusted`.
    pub(super) named: Option<Vec<PathBuf>>,
    pub(super) words: Words,
}

impl Trust {
    /// How a folder stands. Reads the disk, to see where links lead.
    pub fn of(&self, folder: &Path) -> Standing {
        let real = |path: &Path| path.canonicalize().ok().filter(|_| path.is_absolute());
        let Some(folder) = real(folder) else {
            return Standing::Excluded;
        };
        let Some(named) = &self.named else {
            return self.words.about(&folder);
        };
        let mut named = named.iter().filter_map(|path| real(path));
        match named.any(|path| folder.starts_with(path)) {
            true => Standing::Trusted,
            false => Standing::Excluded,
        }
    }

    /// Whether a folder is trusted.
    pub fn trusts(&self, folder: &Path) -> bool {
        self.of(folder) == Standing::Trusted
    }

    /// Whether the setting decides, so that no word counts.
    pub fn is_set(&self) -> bool {
        self.named.is_some()
    }
}

impl Words {
    /// Reads what was said. No file says nothing; one that is not ours neither, which is logged.
    pub fn read(directories: &Directories) -> Self {
        let Some(file) = directories.state.as_ref().map(|state| state.join(FILE)) else {
            return Self::default();
        };
        read(&file).unwrap_or_else(|why| {
            tracing::warn!("{} says nothing: {why}", file.display());
            Self::default()
        })
    }

    /// The folders, and what was said of each.
    pub fn folders(&self) -> impl Iterator<Item = (&Path, Word)> {
        let folders = self.folders.iter();
        folders.map(|(path, word)| (path.as_path(), *word))
    }

    fn about(&self, folder: &Path) -> Standing {
        let nearest = folder.ancestors().find_map(|path| self.folders.get(path));
        match nearest {
            Some(Word::Trusted) => Standing::Trusted,
            Some(Word::Refused) => Standing::Refused,
            None => Standing::Unknown,
        }
    }

    /// Keeps a word about a folder and all below it. Processes that say something at the same time
    /// wait for each other.
    ///
    /// # Errors
    /// When there is no such folder, or no state directory that can be written.
    pub fn say(directories: &Directories, folder: &Path, word: Word) -> Result<(), UserError> {
        change(directories, folder, |words, folder| {
            words.folders.insert(folder.to_owned(), word);
        })
    }

    /// Takes trust back: a folder that is trusted because of one above is refused by name.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub fn revoke(directories: &Directories, folder: &Path) -> Result<(), UserError> {
        change(directories, folder, |words, folder| {
            words.folders.remove(folder);
            if words.about(folder) == Standing::Trusted {
                words.folders.insert(folder.to_owned(), Word::Refused);
            }
        })
    }
}

fn change(
    directories: &Directories,
    folder: &Path,
    change: impl FnOnce(&mut Words, &Path),
) -> Result<(), UserError> {
    let refused = |why: &dyn std::fmt::Display| {
        let folder = printable(&folder.display().to_string());
        let message = format!("Nothing can be kept about trust in {folder}: {why}.");
        UserError::new(Kind::Workspace, message)
    };
    let real = folder.canonicalize().map_err(|why| refused(&why))?;
    if !real.is_dir() {
        return Err(refused(&"it is no folder"));
    }
    if real.to_str().is_none() {
        return Err(refused(&"its path is not text"));
    }
    let Some(state) = &directories.state else {
        return Err(refused(&"there is no home directory to keep it in")
            .with_hint("Set XDG_STATE_HOME, or name the folder in `workspace.trusted`."));
    };
    let kept = || -> io::Result<()> {
        fs::create_dir_all(state)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true);
        // Let go of when it is closed.
        let lock = lock.open(state.join("trust.lock"))?;
        lock.lock()?;
        let file = state.join(FILE);
        // One that cannot be read is not written over.
        let mut words = read(&file)?;
        change(&mut words, &real);
        write(&file, &words)
    };
    kept().map_err(|why| refused(&why))
}

fn read(file: &Path) -> io::Result<Words> {
    let opened = match File::open(file) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Words::default()),
        opened => opened?,
    };
    let mut text = String::new();
    opened.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn write(file: &Path, words: &Words) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    written.write_all(&serde_json::to_vec_pretty(words)?)?;
    written.sync_all()?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> (tempfile::TempDir, Directories) {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "ab", "state"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let directories = Directories {
            state: Some(folder.path().join("state")),
            ..Directories::default()
        };
        (folder, directories)
    }

    fn standing(directories: &Directories, folder: &Path) -> Standing {
        let words = Words::read(directories);
        Trust { named: None, words }.of(folder)
    }

    #[test]
    fn the_word_about_the_nearest_folder_holds_and_can_be_taken_back() {
        let (folder, directories) = stage();
        let at = |path: &str| folder.path().join(path);
        let say = |path: &str, word| Words::say(&directories, &at(path), word).unwrap();
        let standings = || {
            let of = |path| standing(&directories, &at(path));
            ["a", "a/b", "a/b/c", "ab"].map(of)
        };
        use Standing::{Refused, Trusted, Unknown};
        assert_eq!(standings(), [Unknown; 4]);
        say("a", Word::Trusted);
        assert_eq!(standings(), [Trusted, Trusted, Trusted, Unknown]);
        say("a/b", Word::Refused);
        assert_eq!(standings(), [Trusted, Refused, Refused, Unknown]);
        say("a/b/c", Word::Trusted);
        assert_eq!(standings(), [Trusted, Refused, Trusted, Unknown]);
        let revoke = |path: &str| Words::revoke(&directories, &at(path)).unwrap();
        revoke("a/b/c");
        assert_eq!(standings(), [Trusted, Refused, Refused, Unknown]);
        say("a/b", Word::Trusted);
        revoke("a/b/c");
        assert_eq!(standings(), [Trusted, Trusted, Refused, Unknown]);
        revoke("a");
        assert_eq!(standings(), [Unknown, Trusted, Refused, Unknown]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_trusted_as_what_it_leads_to() {
        let (folder, directories) = stage();
        let link = folder.path().join("a/link");
        std::os::unix::fs::symlink(folder.path().join("ab"), &link).unwrap();
        Words::say(&directories, &folder.path().join("a"), Word::Trusted).unwrap();
        assert_eq!(standing(&directories, &link), Standing::Unknown);
        Words::say(&directories, &link, Word::Trusted).unwrap();
        let led_to = folder.path().join("ab");
        assert_eq!(standing(&directories, &led_to), Standing::Trusted);
    }

    #[test]
    fn a_setting_decides_alone() {
        let (folder, directories) = stage();
        let (a, ab) = (folder.path().join("a"), folder.path().join("ab"));
        Words::say(&directories, &a, Word::Trusted).unwrap();
        let words = Words::read(&directories);
        let named = |named: &[&PathBuf]| Trust {
            named: Some(named.iter().map(|path| (*path).clone()).collect()),
            words: words.clone(),
        };
        assert_eq!(named(&[]).of(&a), Standing::Excluded);
        assert_eq!(named(&[&ab]).of(&a), Standing::Excluded);
        assert_eq!(named(&[&ab]).of(&ab), Standing::Trusted);
        assert_eq!(named(&[&PathBuf::from("a")]).of(&a), Standing::Excluded);
    }

    #[test]
    fn a_file_that_is_not_ours_trusts_nothing_and_is_not_written_over() {
        let (folder, directories) = stage();
        let (a, file) = (
            folder.path().join("a"),
            folder.path().join("state/trust.json"),
        );
        let long = format!("{{\"folders\": {{}}}}{}", " ".repeat(MAX_FILE as usize));
        let all = r#"{"folders": {"/": "yes"}}"#;
        for text in ["", "[1]", all, "\u{0}", &long[1..]] {
            fs::write(&file, text).unwrap();
            assert_eq!(standing(&directories, &a), Standing::Unknown);
            let said = Words::say(&directories, &a, Word::Trusted).unwrap_err();
            assert!(said.message.contains("Nothing can be kept"), "{said}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::remove_file(&file).unwrap();
        Words::say(&directories, &a, Word::Trusted).unwrap();
        assert_eq!(standing(&directories, &a), Standing::Trusted);
    }

    #[test]
    fn words_said_at_the_same_time_are_all_kept() {
        let (folder, directories) = stage();
        let folders: Vec<_> = (0..16).map(|n| folder.path().join(n.to_string())).collect();
        folders
            .iter()
            .for_each(|path| fs::create_dir(path).unwrap());
        std::thread::scope(|scope| {
            for path in &folders {
                scope.spawn(|| Words::say(&directories, path, Word::Trusted).unwrap());
            }
        });
        let is_trusted = |path: &PathBuf| standing(&directories, path) == Standing::Trusted;
        assert!(folders.iter().all(is_trusted));
    }
}
