//! What of this machine can be read inside: system programs and toolchains, and no one's secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sandbox_agent::spec::{Access, HOME, Mount};

/// Directories of programs. Those that are links are shown as links.
const SYSTEM: [&str; 8] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
];

/// Of a home directory, what toolchains need. Directories that may hold credentials are made empty
/// and only parts of them are shown.
const TOOLCHAINS: [(&str, Access); 10] = [
    (".cargo", Access::Empty),
    (".cargo/bin", Access::ReadOnly),
    (".cargo/git", Access::Scratch),
    (".cargo/registry", Access::Scratch),
    (".rustup", Access::ReadOnly),
    (".pyenv", Access::ReadOnly),
    (".nvm/versions", Access::ReadOnly),
    (".deno/bin", Access::ReadOnly),
    (".bun/bin", Access::ReadOnly),
    ("go/pkg/mod", Access::Scratch),
];

/// Where distributions put programs, also where no search path leads.
const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec"];

/// The environment that toolchains find themselves by.
const VARIABLES: [(&str, &str); 2] = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];

/// The readable parts of this machine and the environment that goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub(super) mounts: Vec<Mount>,
    pub(super) env: BTreeMap<String, String>,
}

impl Host {
    /// The directories of programs.
    pub(super) fn system() -> Vec<Mount> {
        let system = SYSTEM.iter().map(|path| Mount {
            path: PathBuf::from(path),
            access: Access::ReadOnly,
        });
        system
            .filter(|mount| mount.path.symlink_metadata().is_ok())
            .collect()
    }

    /// Of what can be read, the directories of programs.
    pub(super) fn system_mounts(&self) -> Vec<Mount> {
        let system = self.mounts.iter().filter(|mount| is_system(&mount.path));
        system.cloned().collect()
    }

    /// Finds programs, and the toolchains below `home`. `path` is a search path to take what is
    /// readable inside from.
    pub fn find(home: Option<&Path>, path: Option<&std::ffi::OsStr>) -> Self {
        let mut mounts = Self::system();
        let mut env = BTreeMap::from(
            [
                ("HOME", HOME),
                ("USER", "user"),
                ("LOGNAME", "user"),
                ("SHELL", "/bin/bash"),
                ("LANG", "C.UTF-8"),
                ("TMPDIR", "/tmp"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if let Some(home) = home {
            for (name, access) in TOOLCHAINS {
                let path = home.join(name);
                if is_plain_directory(&path) {
                    mounts.push(Mount { path, access });
                }
            }
            for (name, directory) in VARIABLES {
                let directory = home.join(directory);
                if let Some(directory) = directory.to_str().filter(|_| directory.is_dir()) {
                    env.insert(name.to_owned(), directory.to_owned());
                }
            }
        }
        let shown = |path: &PathBuf| {
            mounts
                .iter()
                .any(|mount| mount.access != Access::Empty && path.starts_with(&mount.path))
        };
        let mut search: Vec<PathBuf> = path
            .map(|path| std::env::split_paths(path).filter(&shown).collect())
            .unwrap_or_default();
        for own in ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from) {
            if !search.contains(&own) {
                search.push(own);
            }
        }
        let search = std::env::join_paths(search).ok();
        let search = search.and_then(|search| search.into_string().ok());
        env.insert(
            "PATH".to_owned(),
            search.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned()),
        );
        Self { mounts, env }
    }
}

/// Finds a program that sandboxes are made with: at the place named, or by one of its names. `None`
/// when it is not there.
///
/// # Errors
/// When it is where no sandbox shows it.
pub(super) fn find_program(
    named: Option<&Path>,
    names: &[&str],
) -> Result<Option<PathBuf>, String> {
    let found = match named {
        Some(path) => path.is_file().then(|| path.to_owned()),
        None => {
            let search = std::env::var_os("PATH").unwrap_or_default();
            let places = std::env::split_paths(&search).chain(PLACES.map(PathBuf::from));
            let mut all = places.flat_map(|place| names.iter().map(move |name| place.join(name)));
            all.find(|path| path.is_absolute() && path.is_file())
        }
    };
    let Some(found) = found else { return Ok(None) };
    let real = found
        .canonicalize()
        .map_err(|error| format!("{}: {error}", found.display()))?;
    if !is_system(&real) {
        let path = real.display();
        return Err(format!(
            "{path} is outside the system's directories, so it cannot be run in a sandbox"
        ));
    }
    Ok(Some(real))
}

/// Whether it is one of the directories of programs, or below one.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|own| path.starts_with(own))
}

/// Whether it is there and reached without a link, so that it means the same inside.
pub(super) fn is_plain_directory(path: &Path) -> bool {
    path.is_dir() && path.canonicalize().is_ok_and(|real| real == path)
}
