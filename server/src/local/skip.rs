//! Which files are not learnt, and why.
//!
//! Holds: rules look at the path within its root and at the first bytes; nothing is opened that
//! the path already rules out. What git ignores is skipped by the walk itself (`learn`).

use std::ffi::OsStr;
use std::path::{Component, Path};

use crate::secret;

/// Why a file was not learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// Excluded by the caller.
    Excluded,
    /// Other people's code, copied in.
    Vendored,
    /// Written by a program, by its name or by its own word.
    Generated,
    /// Lines no person writes.
    Minified,
    /// Not text in UTF-8.
    Binary,
    /// Larger than [`MAX_BYTES`].
    Oversized,
    /// Keys, passwords or other secrets, by its name or its first lines.
    Secret,
    /// Pictures, archives, data.
    NotText,
    /// Could not be read.
    Unreadable,
    /// The memory given was used up before.
    OverMemory,
}

/// Largest file that is learnt.
pub const MAX_BYTES: u64 = 400_000;

const VENDORED: &[&str] = &[
    "node_modules",
    "bower_components",
    "jspm_packages",
    "vendor",
    "vendored",
    "third_party",
    "third-party",
    "thirdparty",
    "external_libs",
    "Pods",
    "Carthage",
    "site-packages",
    "venv",
    "virtualenv",
    "Godeps",
    "extern",
    "3rdparty",
];

const GENERATED_FOLDERS: &[&str] = &[
    "dist",
    "__pycache__",
    "__snapshots__",
    "snapshots",
    "testdata",
    "fixtures",
    "fixture",
    "coverage",
    "htmlcov",
    "CMakeFiles",
    "DerivedData",
    "generated",
    "__generated__",
];

const GENERATED_NAMES: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "Cargo.lock",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "Gemfile.lock",
    "composer.lock",
    "go.sum",
    "flake.lock",
    "mix.lock",
    "packages.lock.json",
];

const GENERATED_ENDS: &[&str] = &[
    ".pb.go",
    ".pb.cc",
    ".pb.h",
    ".pb.rs",
    "_pb2.py",
    "_pb2_grpc.py",
    "_pb2.pyi",
    "_pb.js",
    "_pb.d.ts",
    ".g.dart",
    ".freezed.dart",
    ".designer.cs",
    ".g.cs",
    ".snap",
    ".tsbuildinfo",
    "_generated.go",
    "_generated.rs",
    "_generated.ts",
    ".generated.ts",
    ".generated.js",
    "zz_generated.deepcopy.go",
];

const MINIFIED_ENDS: &[&str] = &[
    ".min.js",
    ".min.css",
    ".min.mjs",
    "-min.js",
    ".bundle.js",
    ".map",
];

const NOT_TEXT: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "bmp", "ico", "webp", "avif", "tiff", "svg", "pdf", "ps", "eps",
    "zip", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "jar", "war", "class", "o", "a", "so",
    "dylib", "dll", "exe", "obj", "lib", "pdb", "wasm", "pyc", "pyo", "ttf", "otf", "woff",
    "woff2", "eot", "mp3", "mp4", "wav", "ogg", "webm", "avi", "mov", "csv", "tsv", "parquet",
    "npy", "npz", "h5", "pkl", "sqlite", "db", "bin", "dat", "log", "po", "pot", "mo", "patch",
    "diff", "lock", "ipynb", "xlf", "xliff", "geojson", "jsonl", "ndjson", "sum",
];

/// Judges a file by its path within its root, before it is opened.
pub(crate) fn by_path(path: &Path) -> Option<Skip> {
    let folder = |names: &[&str]| {
        let folders = path.parent().into_iter().flat_map(Path::components);
        folders
            .into_iter()
            .any(|part| matches!(part, Component::Normal(name) if names.iter().any(|n| name == *n)))
    };
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let extension = path
        .extension()
        .and_then(OsStr::to_str)
        .unwrap_or_default()
        .to_ascii_lowercase();
    if secret::is_file_name(name) {
        Some(Skip::Secret)
    } else if folder(VENDORED) {
        Some(Skip::Vendored)
    } else if folder(GENERATED_FOLDERS)
        || GENERATED_NAMES.contains(&name)
        || GENERATED_ENDS.iter().any(|end| name.ends_with(end))
    {
        Some(Skip::Generated)
    } else if MINIFIED_ENDS.iter().any(|end| name.ends_with(end)) {
        Some(Skip::Minified)
    } else if NOT_TEXT.contains(&extension.as_str()) {
        Some(Skip::NotText)
    } else {
        None
    }
}

/// Returns the text of a file worth learning from, with unix line ends.
///
/// # Errors
/// The reason why it is not.
pub(crate) fn by_content(bytes: Vec<u8>) -> Result<String, Skip> {
    const LOOKED_AT: usize = 8 * 1024;
    const LONGEST_MEAN_LINE: usize = 120;
    const LONGEST_LINE: usize = 5_000;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Skip::Oversized);
    }
    if bytes.iter().take(LOOKED_AT).any(|b| *b == 0) {
        return Err(Skip::Binary);
    }
    let Ok(mut text) = String::from_utf8(bytes) else {
        return Err(Skip::Binary);
    };
    let head = &text[..text.floor_char_boundary(1024)];
    if head.lines().take(20).any(says_generated) {
        return Err(Skip::Generated);
    }
    if secret::is_key_file(&text[..text.floor_char_boundary(LOOKED_AT)]) {
        return Err(Skip::Secret);
    }
    let (mut n_lines, mut longest) = (0, 0);
    for line in text.split('\n') {
        n_lines += 1;
        longest = longest.max(line.len());
    }
    if text.len() / n_lines > LONGEST_MEAN_LINE || longest > LONGEST_LINE {
        return Err(Skip::Minified);
    }
    if text.contains("\r\n") {
        text = text.replace("\r\n", "\n");
    }
    Ok(text)
}

fn says_generated(line: &str) -> bool {
    const SIGNS: &[&str] = &[
        "@generated",
        "Code generated by",
        "code generated by",
        "DO NOT EDIT",
        "Do not edit!",
        "automatically generated",
        "autogenerated",
        "auto-generated",
        "AUTOGENERATED",
    ];
    SIGNS.iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_judged_by_their_folders_and_names() {
        let cases = [
            ("src/main.rs", None),
            ("src/vendor.rs", None),
            ("dist.py", None),
            ("src/keys.rs", None),
            ("README.md", None),
            (".env.example", None),
            ("vendor/lib.go", Some(Skip::Vendored)),
            ("web/node_modules/left-pad/index.js", Some(Skip::Vendored)),
            ("dist/app.js", Some(Skip::Generated)),
            ("Cargo.lock", Some(Skip::Generated)),
            ("api/v1.pb.go", Some(Skip::Generated)),
            ("tests/__snapshots__/a.js", Some(Skip::Generated)),
            ("jquery.min.js", Some(Skip::Minified)),
            ("app.js.map", Some(Skip::Minified)),
            ("logo.PNG", Some(Skip::NotText)),
            ("data.csv", Some(Skip::NotText)),
            (".env", Some(Skip::Secret)),
            ("deploy/prod.env", Some(Skip::Secret)),
            ("certs/server.KEY", Some(Skip::Secret)),
            ("vendor/id_rsa", Some(Skip::Secret)),
        ];
        for (path, wanted) in cases {
            assert_eq!(by_path(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn texts_are_judged_by_what_they_say() {
        let long_line = format!("fn f() {{}}\n{}\n", "x".repeat(6_000));
        let cases: [(&[u8], Result<&str, Skip>); 9] = [
            (b"fn f() {}\n", Ok("fn f() {}\n")),
            (b"one\r\ntwo\r\n", Ok("one\ntwo\n")),
            (b"", Ok("")),
            (b"GIF89a\0\x01", Err(Skip::Binary)),
            (b"caf\xe9\n", Err(Skip::Binary)),
            (
                b"// Code generated by protoc. DO NOT EDIT.\n",
                Err(Skip::Generated),
            ),
            (b"-----BEGIN PRIVATE KEY-----\nMIIE\n", Err(Skip::Secret)),
            (&[b'x'; 300], Err(Skip::Minified)),
            (long_line.as_bytes(), Err(Skip::Minified)),
        ];
        for (bytes, wanted) in cases {
            let text = by_content(bytes.to_vec());
            assert_eq!(text.as_deref().map_err(|skip| *skip), wanted);
        }
        let oversized = vec![b'\n'; MAX_BYTES as usize + 1];
        assert_eq!(by_content(oversized), Err(Skip::Oversized));
    }
}
