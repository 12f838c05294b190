//! Which file an excerpt comes from, told by its lines.
//!
//! Holds: of files that are kept for secrets only hashes of lines are kept, to know them by; what is
//! read is bounded. A line tells something only
//! where one file alone has it, so copies and boilerplate tell nothing, and an excerpt of a file
//! that was changed since is still recognised by its other lines.

use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexer::FileClass;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::secret;
use crate::session::language;

const MAX_FILES: usize = 20_000;
const MAX_LINES: usize = 1_000_000;
/// Of a folder, looked at by name.
const MAX_ENTRIES: usize = 200_000;
/// Languages, by id or ending, in which few files of a project are written that people type in.
const PROSE: &[&str] = &[
    "", "csv", "json", "lock", "markdown", "svg", "toml", "txt", "xml", "yaml",
];
/// Larger files are data.
const MAX_FILE: u64 = 1 << 20;
/// Characters without which a line (`}`, `return x;`) tells too little to be kept.
const SHORTEST: usize = 12;
/// Lines next to the cursor that are looked at, on each side.
const LINES: usize = 200;
/// Telling lines that an excerpt must share with its file.
const ENOUGH: usize = 2;

/// The lines of all files below some folders.
#[derive(Debug, Default)]
pub(super) struct Files {
    paths: Vec<Arc<Path>>,
    /// The language of most files.
    language: Option<String>,
    /// Hash of a line, without the blanks around it, to the one file that has it.
    lines: FxHashMap<u64, Owner>,
    /// Hashes of the lines of files that are kept for secrets.
    secret: FxHashSet<u64>,
}

/// Where an excerpt comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File(Arc<Path>),
    /// A line of it stands in a file that is kept for secrets, and in no other; or it is a key.
    Secret,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    One(u32),
    Several,
}

impl Files {
    pub(super) fn read(roots: &[PathBuf]) -> Self {
        let mut files = Self::default();
        files.add_all(roots);
        files.add_secrets(roots);
        files.language = files.most_common_language();
        files
    }

    fn add_all(&mut self, roots: &[PathBuf]) {
        for root in roots {
            let walk = ignore::WalkBuilder::new(root)
                .follow_links(false)
                .require_git(false)
                .sort_by_file_path(Path::cmp)
                .build();
            for entry in walk.flatten() {
                if self.paths.len() >= MAX_FILES || self.lines.len() >= MAX_LINES {
                    return;
                }
                if entry.file_type().is_some_and(|kind| kind.is_file()) {
                    self.add(entry.path());
                }
            }
        }
    }

    /// Secrets are hidden and ignored as a rule.
    fn add_secrets(&mut self, roots: &[PathBuf]) {
        for root in roots {
            // A root may lie in a folder whose name would tell of vendored code or of secrets.
            let base = root.clone();
            let is_ours = move |entry: &ignore::DirEntry| {
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                let inside = below(&base, entry.path()).join("any");
                !is_folder || FileClass::of_path(&inside.to_string_lossy()) != FileClass::Vendored
            };
            let walk = ignore::WalkBuilder::new(root)
                .standard_filters(false)
                .follow_links(false)
                .filter_entry(is_ours)
                .build();
            for entry in walk.flatten().take(MAX_ENTRIES) {
                let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
                if is_file
                    && secret::is_path(&below(root, entry.path()).to_string_lossy())
                    && let Some(text) = read_text(entry.path())
                {
                    self.secret.extend(telling(text.lines()));
                }
                if self.secret.len() >= MAX_LINES {
                    return;
                }
            }
        }
    }

    fn most_common_language(&self) -> Option<String> {
        let mut counts: FxHashMap<String, usize> = FxHashMap::default();
        for path in &self.paths {
            let language = language::of_path(path);
            if !PROSE.contains(&&*language) {
                *counts.entry(language).or_default() += 1;
            }
        }
        // Names decide between equals, so that the order of a map does not.
        let most = counts
            .into_iter()
            .max_by(|a, b| (a.1, &b.0).cmp(&(b.1, &a.0)));
        most.map(|(language, _)| language)
    }

    /// What a text that no file is known for is most likely written in.
    pub(super) fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    fn add(&mut self, path: &Path) {
        let Some(text) = read(path) else {
            return;
        };
        let Ok(idx) = u32::try_from(self.paths.len()) else {
            return;
        };
        self.paths.push(path.into());
        let own = Owner::One(idx);
        for line in telling(text.lines()) {
            let owner = self.lines.entry(line).or_insert(own);
            if *owner != own {
                *owner = Owner::Several;
            }
        }
    }

    /// The file whose lines the text around a cursor has; unknown where too few of them tell, or
    /// they do not agree.
    pub(super) fn of(&self, prefix: &str, suffix: &str) -> Origin {
        let is_secret = |line: u64| self.secret.contains(&line) && !self.lines.contains_key(&line);
        let all = prefix.split('\n').chain(suffix.split('\n'));
        if secret::is_key_file(prefix) || secret::is_key_file(suffix) || telling(all).any(is_secret)
        {
            return Origin::Secret;
        }
        let file = self.file_of(prefix, suffix).cloned();
        file.map_or(Origin::Unknown, Origin::File)
    }

    fn file_of(&self, prefix: &str, suffix: &str) -> Option<&Arc<Path>> {
        // The line of the cursor is being written.
        let before = prefix.rsplit('\n').skip(1).take(LINES);
        let after = suffix.split('\n').skip(1).take(LINES);
        let mut votes: FxHashMap<u32, usize> = FxHashMap::default();
        let mut all = 0;
        for line in telling(before.chain(after)) {
            if let Some(Owner::One(idx)) = self.lines.get(&line) {
                *votes.entry(*idx).or_default() += 1;
                all += 1;
            }
        }
        let (idx, n) = votes.into_iter().max_by_key(|&(_, n)| n)?;
        (n >= ENOUGH && 2 * n > all).then(|| &self.paths[idx as usize])
    }
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// Reads a file that is text and no secret; `None` for others.
pub(super) fn read(path: &Path) -> Option<String> {
    if secret::is_path(&path.to_string_lossy()) {
        return None;
    }
    read_text(path).filter(|text| !secret::is_key_file(text))
}

fn read_text(path: &Path) -> Option<String> {
    // A path that was a file when the folder was walked may be a link out of it now, or a pipe.
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).ok()?;
    let is_data = text.len() as u64 > MAX_FILE || text.contains('\0');
    (!is_data).then_some(text)
}

fn telling<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = u64> {
    let hasher = BuildHasherDefault::<FxHasher>::default();
    lines
        .map(str::trim)
        .filter(|line| line.len() >= SHORTEST)
        .map(move |line| hasher.hash_one(line))
}

/// The part of `file` that the excerpt `prefix` + `suffix` shows, in bytes: from its first to its
/// last line. `None` where no line of it stands in the file once and in order.
pub(super) fn part(file: &str, prefix: &str, suffix: &str) -> Option<Range<usize>> {
    let lines = Lines::of(file);
    let above: Vec<&str> = prefix.split('\n').collect();
    let below: Vec<&str> = suffix.split('\n').collect();
    // The cursor's line is the last of the one and the first of the other.
    let (first, at_first) = lines.anchor(above[..above.len() - 1].iter().enumerate())?;
    let start = match at_first.checked_sub(first) {
        Some(line_idx) => {
            lines.start(line_idx) + cut_off(lines.text(line_idx), above[0], Side::End)
        }
        None => 0,
    };
    let last = lines.anchor(below[1..].iter().rev().enumerate());
    let end = match last {
        Some((from_end, at)) if at >= at_first => {
            let line_idx = at + from_end;
            if line_idx < lines.len() {
                let kept = cut_off(lines.text(line_idx), below[below.len() - 1], Side::Start);
                lines.start(line_idx) + lines.text(line_idx).len() - kept
            } else {
                file.len()
            }
        }
        // The end of the excerpt is not in the file, or the file ends in it.
        _ => file.len(),
    };
    (start <= end).then_some(start..end)
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Start,
    End,
}

/// Bytes of `line` that an excerpt does not show which cuts it to `shown`.
fn cut_off(line: &str, shown: &str, side: Side) -> usize {
    let has_it = match side {
        Side::Start => line.starts_with(shown),
        Side::End => line.ends_with(shown),
    };
    if has_it { line.len() - shown.len() } else { 0 }
}

/// The lines of a text, each where it begins, and those that stand in it once.
struct Lines<'a> {
    lines: Vec<(usize, &'a str)>,
    once: FxHashMap<&'a str, Option<usize>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines = Vec::new();
        let mut once: FxHashMap<&str, Option<usize>> = FxHashMap::default();
        let mut start = 0;
        for line in text.split('\n') {
            once.entry(line)
                .and_modify(|at| *at = None)
                .or_insert(Some(lines.len()));
            lines.push((start, line));
            start += line.len() + 1;
        }
        Self { lines, once }
    }

    fn len(&self) -> usize {
        self.lines.len()
    }

    fn start(&self, line_idx: usize) -> usize {
        self.lines[line_idx].0
    }

    fn text(&self, line_idx: usize) -> &'a str {
        self.lines[line_idx].1
    }

    /// The first of `excerpt`'s lines that stands here once: its number there and here.
    fn anchor<'b>(
        &self,
        mut excerpt: impl Iterator<Item = (usize, &'b &'b str)>,
    ) -> Option<(usize, usize)> {
        excerpt.find_map(|(n, line)| {
            let telling = line.trim().len() >= SHORTEST;
            let at = telling.then(|| self.once.get(*line).copied().flatten());
            Some((n, at.flatten()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CIRCLE: &str = "import math\n\ndef area_of_circle(radius):\n    return math.pi * radius ** 2\n\n\
        def length_of_circle(radius):\n    return 2 * math.pi * radius\n";
    const SQUARE: &str = "import math\n\ndef area_of_square(side):\n    return side * side * 1.0\n";

    #[test]
    fn a_root_below_a_folder_of_packages_has_its_secrets_known() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("node_modules/mine");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join(".env"), "PAYMENT_TOKEN=not for anyone else\n").unwrap();
        let files = Files::read(&[root]);
        let found = files.of("PAYMENT_TOKEN=not for anyone else\n", "");
        assert_eq!(found, Origin::Secret);
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("circle.py"), CIRCLE).unwrap();
        fs::write(folder.path().join("square.py"), SQUARE).unwrap();
        let secret = "first line of the secret file\nsecond line of the secret file\n";
        fs::write(folder.path().join("credentials"), secret).unwrap();
        folder
    }

    fn name(files: &Files, prefix: &str, suffix: &str) -> Option<String> {
        match files.of(prefix, suffix) {
            Origin::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
            Origin::Secret => Some("a secret".to_owned()),
            Origin::Unknown => None,
        }
    }

    #[test]
    fn an_excerpt_is_recognised_by_lines_that_one_file_has() {
        let folder = folder();
        let files = Files::read(&[folder.path().to_owned()]);
        let changed = "def area_of_circle(radius):\n    return math.pi * radius ** 2\n\nnew = ";
        assert_eq!(name(&files, changed, "").as_deref(), Some("circle.py"));
        let around = (
            "x = ",
            "\ndef area_of_square(side):\n    return side * side * 1.0\n",
        );
        assert_eq!(
            name(&files, around.0, around.1).as_deref(),
            Some("square.py")
        );
        // Too little, of two files at once, of none.
        for (prefix, suffix) in [
            ("def area_of_circle(radius):\n    ", ""),
            (
                "def area_of_circle(radius):\ndef area_of_square(side):\n",
                "",
            ),
            ("nothing of all this\nstands in any file\n", ""),
        ] {
            assert_eq!(name(&files, prefix, suffix), None, "{prefix}");
        }
    }

    #[test]
    fn an_excerpt_with_a_line_of_a_secret_file_is_known_for_one() {
        let folder = folder();
        let env = "# how to reach it\nDATABASE=postgres://u:p@host/db\nimport math  # shared\n";
        fs::write(folder.path().join(".gitignore"), ".env\n").unwrap();
        fs::write(folder.path().join(".env"), env).unwrap();
        fs::write(folder.path().join("shared.py"), "import math  # shared\n").unwrap();
        let files = Files::read(&[folder.path().to_owned()]);
        for (prefix, suffix) in [
            ("first line of the secret file\n", ""),
            ("NEW=", "\nDATABASE=postgres://u:p@host/db\n"),
            ("DATABASE=postgres://u:p@host/db", ""),
            ("-----BEGIN RSA PRIVATE KEY-----\nMII", ""),
        ] {
            let known = name(&files, prefix, suffix);
            assert_eq!(known.as_deref(), Some("a secret"), "{prefix}");
        }
        assert_eq!(name(&files, "import math  # shared\n", ""), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_became_a_link_is_not_read() {
        let folder = folder();
        let (file, link) = (
            folder.path().join("circle.py"),
            folder.path().join("link.py"),
        );
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&file).as_deref(), Some(CIRCLE));
        assert_eq!(read(&link), None);
    }

    #[test]
    fn the_part_that_an_excerpt_shows_is_found_although_it_was_changed() {
        let prefix = "def area_of_circle(radius):\n    # new\n    return ";
        let suffix = "\n\ndef length_of_circle(radius):\n    retu";
        let part = part(CIRCLE, prefix, suffix).unwrap();
        assert_eq!(&CIRCLE[..part.start], "import math\n\n");
        assert_eq!(&CIRCLE[part.end..], "rn 2 * math.pi * radius\n");
    }

    #[test]
    fn an_excerpt_of_another_text_has_no_part() {
        assert_eq!(part(CIRCLE, "nothing of it\nis in the file\n", "\n"), None);
    }

    proptest::proptest! {
        /// Whatever is asked, the part is within the file and at characters.
        #[test]
        fn a_part_can_always_be_cut_out(
            file in "([a-c漢]{0,14}\n){0,12}",
            prefix in "([a-c漢]{0,14}\n){0,6}[a-c]{0,3}",
            suffix in "[a-c]{0,3}(\n[a-c漢]{0,14}){0,6}",
        ) {
            if let Some(part) = part(&file, &prefix, &suffix) {
                let _ = (&file[..part.start], &file[part.end..]);
            }
        }

        /// An excerpt of an unchanged file is replaced by itself.
        #[test]
        fn an_unchanged_excerpt_gives_the_file_back(cut in 0_usize..3, cursor in 3_usize..9) {
            let lines: Vec<String> = (0..12).map(|n| format!("a telling line, number {n}")).collect();
            let file = lines.join("\n");
            let prefix = lines[cut..cursor].join("\n") + "\n";
            let suffix = format!("\n{}", lines[cursor + 1..12 - cut].join("\n"));
            let part = part(&file, &prefix, &suffix).unwrap();
            let spliced = format!(
                "{}{prefix}{}{suffix}{}",
                &file[..part.start], lines[cursor], &file[part.end..],
            );
            proptest::prop_assert_eq!(spliced, file);
        }
    }
}
