//! The workspace that is measured in: real code, and a file to type in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// Files of the default workspace: what the targets are stated for.
const FILES: usize = 1_200;

/// A workspace of real code.
pub(crate) struct Input {
    name: String,
    files: Vec<PathBuf>,
    bytes: u64,
    root: PathBuf,
    _copy: Option<TempDir>,
}

impl Input {
    /// Takes the workspace at `root`, or copies published sources: of the packages this project
    /// depends on, in the order of their names, until there are [`FILES`] files.
    pub(crate) fn new(root: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(root) = root {
            let root = root.canonicalize()?;
            let mut files = Vec::new();
            sources(&root, usize::MAX, &mut files)?;
            return Self::of(root.display().to_string(), root, files, None);
        }
        let copy = tempfile::tempdir()?;
        let mut files = Vec::new();
        let mut packages = published()?;
        packages.sort();
        for package in packages {
            let from = files.len();
            sources(&package, FILES - from, &mut files)?;
            let above = package.parent().context("a package is in a folder")?;
            for file in &mut files[from..] {
                let to = copy.path().join(file.strip_prefix(above)?);
                fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
                fs::copy(&*file, &to)?;
                *file = to;
            }
            if files.len() >= FILES {
                break;
            }
        }
        let name = "sources of dependencies".to_owned();
        Self::of(name, copy.path().canonicalize()?, files, Some(copy))
    }

    fn of(
        name: String,
        root: PathBuf,
        files: Vec<PathBuf>,
        copy: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let sizes = files.iter().map(|file| Ok(fs::metadata(file)?.len()));
        let bytes = sizes.sum::<anyhow::Result<u64>>()?;
        Ok(Self {
            name,
            files,
            bytes,
            root,
            _copy: copy,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of ordinary size, its text, and the byte at which a line in its middle begins.
    pub(crate) fn middle_of_a_file(&self) -> anyhow::Result<(PathBuf, String, usize)> {
        for file in &self.files {
            let text = fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().count();
            if (250..500).contains(&lines) && text.is_ascii() && !text.contains(['\r', '\t']) {
                let half = text.len() / 2;
                let at = text[..half].rfind('\n').map_or(0, |end| end + 1);
                return Ok((file.clone(), text, at));
            }
        }
        anyhow::bail!("no file of 250 to 500 lines in {}", self.name)
    }

    /// Paths of `n` files within the workspace, of 1,000 to 8,000 bytes each.
    pub(crate) fn some_files(&self, n: usize) -> anyhow::Result<Vec<String>> {
        let is_usual = |file: &Path| {
            fs::metadata(file).is_ok_and(|about| (1_000..=8_000).contains(&about.len()))
        };
        let usual = self.files.iter().filter(|file| is_usual(file)).take(n);
        let paths = usual.map(|file| file.strip_prefix(&self.root));
        let paths = paths.map(|path| Ok(path?.to_string_lossy().into_owned()));
        paths.collect()
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, mb) = (self.files.len(), self.bytes as f64 / 1e6);
        write!(f, "{}, {files} files, {mb:.1} MB", self.name)
    }
}

/// Folders of the packages this machine's package manager has unpacked.
fn published() -> anyhow::Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let registries = home.context("no home directory")?.join("registry/src");
    let mut packages = Vec::new();
    for registry in fs::read_dir(&registries).with_context(|| registries.display().to_string())? {
        for package in fs::read_dir(registry?.path())? {
            packages.push(package?.path());
        }
    }
    Ok(packages)
}

/// Adds the source files below `folder` to `files`, at most `most`.
fn sources(folder: &Path, most: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    const ENDINGS: &[&str] = &["rs", "py", "js", "ts", "go", "c", "h", "cc", "java", "rb"];
    let found = ignore::WalkBuilder::new(folder)
        .sort_by_file_name(Ord::cmp)
        .build()
        .filter_map(Result::ok)
        .map(ignore::DirEntry::into_path)
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending))
        });
    files.extend(found.take(most));
    Ok(())
}
