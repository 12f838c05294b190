//! Which files of a folder commands must not read: those kept for secrets, and git's settings where
//! they have a password.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::secret;

/// Files looked at for secrets.
const FILES: usize = 200_000;
/// Bytes of git's settings; a longer file is taken for a secret.
const GIT_SETTINGS: u64 = 1 << 20;

/// Files that hold secrets, by their paths.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pub(super) files: Vec<PathBuf>,
    /// Settings of git.
    pub(super) git: Vec<PathBuf>,
}

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// A workspace, with git's folders where they are in it.
    Work,
    /// What git keeps a repository in.
    Git,
}

/// Files with secrets of a workspace, and of those among `reads` that git keeps a repository in.
///
/// # Errors
/// When there are too many files to look at all of them: one that was not looked at could be read.
pub(super) fn secrets_of(root: &Path, reads: &[PathBuf]) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::default();
    secrets.look(root, Tree::Work, FILES)?;
    for read in reads.iter().filter(|read| is_repository(read)) {
        secrets.look(read, Tree::Git, FILES)?;
    }
    Ok(secrets)
}

impl Secrets {
    /// Looks through a folder of no more than `most` files and directories.
    fn look(&mut self, root: &Path, tree: Tree, most: usize) -> anyhow::Result<()> {
        let mut files = ignore::WalkBuilder::new(root);
        let top = root.to_owned();
        // Ignored files are where secrets are; what is installed or built is not. Besides settings
        // git keeps what was committed, and other repositories.
        files.standard_filters(false).filter_entry(move |entry| {
            let above = entry.path().parent();
            let below_top = above.and_then(|above| above.strip_prefix(&top).ok());
            let is_git = tree == Tree::Git
                || below_top.is_some_and(|below| below.iter().any(|name| name == ".git"));
            let name = entry.file_name().to_str();
            match is_git {
                true => {
                    let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
                    !is_directory
                        || matches!(name, Some("modules" | "worktrees"))
                        || !above.is_some_and(is_repository)
                }
                false => !matches!(name, Some("node_modules" | "target")),
            }
        });
        for (n, entry) in files.build().flatten().enumerate() {
            if n >= most {
                bail!("the folder has more than {most} files, so its secret files cannot be told");
            }
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            if secret::is_path(&entry.path().to_string_lossy()) {
                self.files.push(entry.into_path());
            } else if is_git_settings(entry.path()) && holds_password(entry.path()) {
                self.git.push(entry.into_path());
            }
        }
        Ok(())
    }
}

/// Whether git keeps a repository, a submodule or a working tree in a directory.
fn is_repository(directory: &Path) -> bool {
    let has = |name| directory.join(name).exists();
    has("HEAD") && (has("objects") || has("commondir"))
}

fn is_git_settings(path: &Path) -> bool {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    name.is_some_and(|name| name.starts_with("config")) && path.parent().is_some_and(is_repository)
}

/// Whether a file of git's settings has a password or token, or a program that may tell one; so has
/// one that cannot be read.
fn holds_password(path: &Path) -> bool {
    let is_short = std::fs::metadata(path).is_ok_and(|found| found.len() <= GIT_SETTINGS);
    match std::fs::read(path) {
        Ok(bytes) if is_short => is_password_among(&String::from_utf8_lossy(&bytes)),
        _ => true,
    }
}

fn is_password_among(settings: &str) -> bool {
    let has_name = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        let name = name.to_ascii_lowercase();
        ["extraheader", "pass", "password", "helper", "token"]
            .iter()
            .any(|secret| name.ends_with(secret))
    };
    // The user of ssh is no secret; of HTTP a token can be one.
    let has_user = |(at, _): (usize, &str)| {
        let (scheme, rest) = (&settings[..at], &settings[at + 3..]);
        let end = rest.find(|c: char| c == '/' || c == '"' || c.is_whitespace());
        let user = rest[..end.unwrap_or(rest.len())].rsplit_once('@');
        let is_http = scheme.ends_with("http") || scheme.ends_with("https");
        user.is_some_and(|(user, _)| is_http || user.contains(':'))
    };
    settings.lines().any(has_name)
        || settings.match_indices("://").any(has_user)
        || secret::redact(settings) != settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_too_large_to_be_looked_through_gets_no_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.rs", "b.rs", ".env"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        // The folder itself counts.
        let look = |most| {
            let mut found = Secrets::default();
            found.look(folder.path(), Tree::Work, most).map(|()| found)
        };
        assert_eq!(look(4).unwrap().files, [folder.path().join(".env")]);
        let why = look(3).unwrap_err();
        assert!(why.to_string().contains("more than 3 files"), "{why}");
    }

    #[test]
    fn settings_of_git_with_a_password_are_secrets() {
        for (settings, is_secret) in [
            (
                "[remote \"o\"]\n\turl = https://me:s3cr3t@host/a.git\n",
                true,
            ),
            ("[remote \"o\"]\n\turl = https://s3cr3t@host/a.git\n", true),
            (
                "[url \"https://x:s3cr3t@host/\"]\n\tinsteadOf = https://host/\n",
                true,
            ),
            (
                "[http \"https://host/\"]\n\textraheader = AUTHORIZATION: basic eDp5\n",
                true,
            ),
            ("[http]\n\tproxy = http://me:s3cr3t@proxy:3128\n", true),
            (
                "[credential]\n\thelper = \"!f() { echo password=x; }; f\"\n",
                true,
            ),
            ("[sendemail]\n\tsmtpPass = a\n\tsmtpPassword = b\n", true),
            ("[remote \"o\"]\n\turl = git@host:me/a.git\n", false),
            ("[remote \"o\"]\n\turl = ssh://git@host/a.git\n", false),
            ("[remote \"o\"]\n\turl = https://host/a@1.git\n", false),
            (
                "[core]\n\tbare = false\n[branch \"main\"]\n\tremote = o\n",
                false,
            ),
        ] {
            assert_eq!(is_password_among(settings), is_secret, "{settings}");
        }
    }

    #[test]
    fn settings_of_git_are_found_wherever_git_keeps_them() {
        const SECRET: &str = "[http]\n\textraheader = AUTHORIZATION: basic eDp5\n";
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for repository in [".git", ".git/modules/objects", "sub/.git"] {
            write(&format!("{repository}/HEAD"), "ref: refs/heads/main\n");
            write(&format!("{repository}/config"), SECRET);
            write(&format!("{repository}/objects/ab/config"), SECRET);
            write(&format!("{repository}/refs/heads/config"), "0\n");
        }
        write(".git/worktrees/w/HEAD", "0\n");
        write(".git/worktrees/w/commondir", "../..\n");
        write(".git/worktrees/w/config.worktree", SECRET);
        // What only looks like git's own hides nothing.
        write("HEAD", "");
        write("objects/a", "");
        write("deep/.env", "TOKEN=a\n");
        let mut found = secrets_of(folder.path(), &[]).unwrap();
        found.git.sort();
        let at = |path: &str| folder.path().join(path);
        let settings = [
            at(".git/config"),
            at(".git/modules/objects/config"),
            at(".git/worktrees/w/config.worktree"),
            at("sub/.git/config"),
        ];
        assert_eq!(found.git, settings);
        assert_eq!(found.files, [at("deep/.env")]);
        // The repository of a working tree that is elsewhere.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut found = secrets_of(elsewhere.path(), &[at(".git")]).unwrap();
        found.git.sort();
        assert_eq!(found.git, settings[..3]);
    }
}
