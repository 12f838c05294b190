use super::*;

#[test]
fn plain_paths_are_taken_and_cleaned() {
    for (path, clean) in [
        ("a", "a"),
        ("a/b.rs", "a/b.rs"),
        ("./a//b/./c", "a/b/c"),
        (r"a\b.rs", "a/b.rs"),
        ("a/b/", "a/b"),
        (".github/workflows/ci.yml", ".github/workflows/ci.yml"),
        (".gitignore", ".gitignore"),
        ("src/git~x", "src/git~x"),
        ("ünï/日本.txt", "ünï/日本.txt"),
        ("a..b/...", "a..b/..."),
    ] {
        assert_eq!(RepoPath::parse(path).unwrap().as_str(), clean, "{path}");
    }
}

#[test]
fn paths_that_lead_elsewhere_are_denied() {
    for path in [
        "",
        ".",
        "/",
        "/etc/passwd",
        "//x",
        "~",
        "~/x",
        "C:/x",
        r"c:\x",
        r"\\host\share",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        r"..\x",
        r"a\..\..\x",
        ".git",
        ".git/config",
        ".GIT/config",
        ".Git/hooks/pre-commit",
        "a/.git/x",
        ".git./x",
        ".git /x",
        ".git::$INDEX_ALLOCATION/x",
        "git~1/config",
        "GIT~1/x",
        ".g\u{200c}it/config",
        ".git\u{feff}/config",
        ".hg/x",
        ".svn/x",
        ".jj/x",
        "a\0b",
        "a\nb",
        "a\u{202e}b",
        "a\u{2066}b",
        "x::$DATA",
        "a/b:$x",
    ] {
        assert!(RepoPath::parse(path).is_err(), "{path:?}");
    }
    assert!(RepoPath::parse(&"a/".repeat(3000)).is_err());
    assert!(RepoPath::parse(&"a".repeat(300)).is_err());
}

#[test]
fn the_end_of_a_path_is_whole_components() {
    let path = RepoPath::parse("src/lib/a.rs").unwrap();
    let ends = |tail: &str| path.ends_with(&RepoPath::parse(tail).unwrap());
    assert!(ends("a.rs") && ends("lib/a.rs") && ends("src/lib/a.rs"));
    assert!(!ends("b/a.rs") && !ends(".rs") && !ends("ib/a.rs"));
}
