//! Which files are read for content, and why the others are not.
//!
//! The rules look at the name first, so that secrets are never opened. A file whose content is
//! skipped is still known by its path.

use serde::{Deserialize, Serialize};

/// Larger files are not read.
pub(crate) const MAX_BYTES: u64 = 2 << 20;

/// What a file is, as far as the index cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileClass {
    /// Read and indexed.
    Content,
    /// The name says it holds keys or passwords. Never opened.
    Secret,
    Binary,
    /// Written by a program, by its own header or its name (lock files, `*.pb.go`).
    Generated,
    Minified,
    /// Someone else's code, copied in (`node_modules`, `third_party`, top-level `vendor`).
    Vendored,
    /// Above 2 MiB.
    Oversized,
    /// Could not be read; the fault says why.
    Unreadable,
}

impl FileClass {
    /// Returns the class a path alone decides, or `Content`. Case does not matter; `/` separates
    /// folders. The one list for every reader of the user's files: what is a secret here is
    /// quoted, learnt and sent nowhere.
    pub fn of_path(path: &str) -> Self {
        let lower = path.to_ascii_lowercase();
        let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if is_secret(folders, name) {
            Self::Secret
        } else if is_vendored(folders) {
            Self::Vendored
        } else if BINARY_EXTENSIONS.contains(&extension) {
            Self::Binary
        } else if ends_with(MINIFIED_ENDINGS) {
            Self::Minified
        } else if GENERATED_NAMES.contains(&name) || ends_with(GENERATED_ENDINGS) {
            Self::Generated
        } else {
            Self::Content
        }
    }
}

/// Returns the class of a file that [`FileClass::of_path`] lets through, from its bytes.
///
/// Binary: a null byte in the first 8 KiB, or more than a tenth of them invalid UTF-8.
/// Generated: a marker in the first 1,000 bytes (linguist's list, shortened).
/// Minified: script or style sheet whose lines average above 300 bytes, with one above 2,000.
pub(crate) fn by_content(path: &str, bytes: &[u8]) -> FileClass {
    let head = &bytes[..bytes.len().min(8 << 10)];
    if head.contains(&0) || invalid_bytes(head) * 10 > head.len() {
        return FileClass::Binary;
    }
    let start = String::from_utf8_lossy(&head[..head.len().min(1_000)]).to_ascii_lowercase();
    if GENERATED_MARKS.iter().any(|mark| start.contains(mark)) {
        return FileClass::Generated;
    }
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    if matches!(extension, "js" | "mjs" | "cjs" | "css") {
        let longest = bytes
            .split(|&b| b == b'\n')
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0);
        let n_lines = bytes.iter().filter(|&&b| b == b'\n').count() + 1;
        if longest > 2_000 && bytes.len() / n_lines > 300 {
            return FileClass::Minified;
        }
    }
    FileClass::Content
}

/// Returns whether a path is a test, fixture or example by the habits of the languages we know.
pub(crate) fn is_test(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let stem = name.split('.').next().unwrap_or(name);
    let in_folder = folders.split('/').any(|folder| {
        matches!(
            folder,
            "test"
                | "tests"
                | "testing"
                | "testdata"
                | "__tests__"
                | "spec"
                | "specs"
                | "fixtures"
                | "t"
                | "e2e"
                | "mocks"
                | "__mocks__"
                | "unittests"
        ) || folder.ends_with("_tests")
            || folder.ends_with("-tests")
            || folder.ends_with("_test")
    });
    in_folder
        || stem == "test"
        || stem == "tests"
        || stem == "conftest"
        || stem.starts_with("test_")
        || stem.starts_with("test-")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || stem.ends_with("-test")
        || stem.ends_with("_spec")
        || name.contains(".test.")
        || name.contains(".spec.")
        || has_test_word(path)
}

/// `FooTest.java`, `FooTests.cs`, `TestFoo.java`: only visible before lower-casing.
fn has_test_word(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    matches!(
        extension,
        "java" | "kt" | "cs" | "scala" | "swift" | "php" | "groovy"
    ) && (stem.ends_with("Test")
        || stem.ends_with("Tests")
        || stem.ends_with("TestCase")
        || stem.ends_with("Spec")
        || (stem.starts_with("Test") && stem[4..].starts_with(|c: char| c.is_uppercase())))
}

fn is_secret(folders: &str, name: &str) -> bool {
    let is_env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    is_env && !SAMPLE_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || SECRET_NAMES.contains(&name)
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || folders
            .split('/')
            .any(|folder| SECRET_FOLDERS.contains(&folder))
}

fn is_vendored(folders: &str) -> bool {
    folders
        .split('/')
        .enumerate()
        .any(|(depth, folder)| match folder {
            "node_modules" | "bower_components" | "jspm_packages" | "third_party"
            | "third-party" | "thirdparty" | "3rdparty" | "vendored" | "site-packages" | "pods"
            | "carthage" | "godeps" | "venv" | "virtualenv" | ".venv" | ".yarn" => true,
            "vendor" => depth == 0,
            _ => false,
        })
}

fn invalid_bytes(head: &[u8]) -> usize {
    head.utf8_chunks().map(|chunk| chunk.invalid().len()).sum()
}

const SECRET_NAMES: &[&str] = &[
    "_netrc",
    ".dockercfg",
    ".envrc",
    ".git-credentials",
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    "credentials",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kubeconfig",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "service-account.json",
    "serviceaccount.json",
];

const SECRET_ENDINGS: &[&str] = &[
    ".asc",
    ".gpg",
    ".jks",
    ".kdbx",
    ".key",
    ".keystore",
    ".ovpn",
    ".p12",
    ".pem",
    ".pfx",
    ".pkcs12",
    ".ppk",
    ".tfstate",
    ".tfvars",
];

const SECRET_FOLDERS: &[&str] = &[".aws", ".gnupg", ".kube", ".ssh"];

/// Endings of files that show what an environment needs, without its values.
const SAMPLE_ENDINGS: &[&str] = &[".defaults", ".dist", ".example", ".sample", ".template"];

const MINIFIED_ENDINGS: &[&str] = &[
    ".min.js",
    ".min.css",
    ".min.mjs",
    "-min.js",
    ".bundle.js",
    ".map",
];

const BINARY_EXTENSIONS: &[&str] = &[
    "7z", "a", "avi", "bin", "bmp", "bz2", "class", "db", "dll", "dmg", "doc", "docx", "dylib",
    "eot", "exe", "flac", "gif", "gz", "ico", "icns", "jar", "jpeg", "jpg", "lib", "mkv", "mo",
    "mov", "mp3", "mp4", "o", "obj", "ogg", "otf", "parquet", "pdf", "png", "ppt", "pptx", "psd",
    "pyc", "rar", "rlib", "so", "sqlite", "sqlite3", "tar", "tgz", "tif", "tiff", "ttf", "wasm",
    "wav", "webm", "webp", "whl", "woff", "woff2", "xls", "xlsx", "xz", "zip", "zst",
];

const GENERATED_NAMES: &[&str] = &[
    "cargo.lock",
    "composer.lock",
    "flake.lock",
    "gemfile.lock",
    "go.sum",
    "mix.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "packages.lock.json",
    "pipfile.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "pubspec.lock",
    "uv.lock",
    "yarn.lock",
    "bun.lock",
];

const GENERATED_ENDINGS: &[&str] = &[
    ".pb.go",
    ".pb.cc",
    ".pb.h",
    ".pb.rs",
    "_pb2.py",
    "_pb2_grpc.py",
    "_pb2.pyi",
    "_pb.js",
    "_pb.d.ts",
    ".designer.cs",
    ".g.cs",
    ".g.dart",
    ".freezed.dart",
    "_generated.go",
    "_generated.rs",
    "_generated.ts",
    ".generated.js",
    ".generated.ts",
    "zz_generated.deepcopy.go",
    ".snap",
    ".tsbuildinfo",
];

const GENERATED_MARKS: &[&str] = &[
    "@generated",
    "code generated by",
    "do not modify this file",
    "autogenerated",
    "auto-generated",
    "automatically generated",
    "generated by the protocol buffer compiler",
    "this file is generated",
    "this file was generated",
];
