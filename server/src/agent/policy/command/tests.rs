//! Bash itself runs lines, with no program but a few harmless ones and one that leaves a mark.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Line;

/// Lines around other lines: `@` is the other as it is, `Q` in single quotes, `B` as it is written
/// in backticks. `probe` is a program that leaves a file.
const AROUND: &[&str] = &[
    "$(@)",
    "echo $(@)",
    "echo \"$(@)\"",
    "`B`",
    "echo `B`",
    "echo \"`B`\"",
    "echo ${x:-@}",
    "echo ${x:=@}",
    "echo \"${x:-@}\"",
    "echo ${x:-'@'}",
    "echo ${x/@/}",
    "echo ${x#@}",
    "${x:-@}",
    "echo $((@))",
    "((@))",
    "((1)) && @",
    "[[ @ -eq 0 ]]",
    "[[ -n @ ]]",
    "[[ a ]] && @",
    "[ @ ]",
    "x=@",
    "x=@ ls",
    "a[@]=1",
    "'a[@]'",
    "x=Q; ((x))",
    "x=Q; echo $((x))",
    "echo ${y:Q}",
    "x=Q; echo ${x@P}",
    "x=Q; $x",
    "x=Q; eval \"$x\"",
    "(@)",
    "{ @; }",
    "echo <(@)",
    "cat <<E\n@\nE",
    "cat <<'E'\nx\nE\n@",
    "cat <<E @\nx\nE",
    "cat <<E | @\nx\nE",
    "cat <<-E\n\t@\n\tE",
    "cat <<\"E\"\n@\nE",
    "> y @",
    "nice > y @",
    "&> y @",
    "2>&1 @",
    "cat <<< @",
    "sh -c Q",
    "sh -c \"@\"",
    "bash -c Q",
    "eval Q",
    "eval @",
    "exec @",
    "command @",
    "builtin eval Q",
    "time @",
    "nice @",
    "env @",
    "timeout 1 @",
    "! @",
    "true; @",
    "true && @",
    "false || @",
    "true | @",
    "@ &",
    "true\n@",
    "true \\\n; @",
    "\\@",
    "\n\\@",
    "if true; then @; fi",
    "for i in @; do :; done",
    "for i in a; do @; done",
    "while @; do break; done",
    "case @ in *) ;; esac",
    "case a in @) ;; esac",
    "case a in *) @;; esac",
    "f() { @; }; f",
    "function f { @; }; f",
    "trap Q EXIT",
    "echo {a,@}",
    "declare x=@",
    "declare -i x=Q",
    "x=(@)",
    "test -v Q",
    "[ -v Q ]",
    "unset Q",
    "printf -v Q x",
    "echo # @\n@",
    "echo a#b; @",
    "echo $'a\\'b'; @",
    "echo \"a\\\"b\"; @",
    "coproc @",
    "set -- @; \"$@\"",
    "xargs @ < /dev/null",
    "echo Q | sh",
    "echo x | xargs -I% sh -c Q",
    "alias l=Q; l",
    "select i in @; do break; done",
    "let Q",
];

fn around(outer: &str, inner: &str) -> String {
    let mut written = String::new();
    for c in outer.chars() {
        match c {
            '@' => written.push_str(inner),
            'Q' => written.push_str(&format!("'{}'", inner.replace('\'', "'\\''"))),
            'B' => written.push_str(
                &inner
                    .replace('\\', "\\\\")
                    .replace('`', "\\`")
                    .replace('$', "\\$"),
            ),
            c => written.push(c),
        }
    }
    written
}

#[test]
fn bash_runs_nothing_that_is_not_seen_or_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, mark) = (folder.path().join("bin"), folder.path().join("mark"));
    fs::create_dir(&programs).unwrap();
    let probe = programs.join("probe");
    fs::write(&probe, "#!/bin/sh\n: > \"$MARK\"\n").unwrap();
    fs::set_permissions(&probe, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["cat", "env", "nice", "sh", "timeout", "xargs"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(name), programs.join(name)).unwrap();
    }
    let runs_probe = |line: &str| {
        let _ = fs::remove_file(&mark);
        #[expect(
            clippy::disallowed_methods,
            reason = "the shell that lines are judged for, with no program but these"
        )]
        let mut bash = std::process::Command::new("/usr/bin/timeout");
        bash.args(["2", "/bin/bash", "-c", line])
            .env_clear()
            .env("PATH", &programs)
            .env("MARK", &mark)
            .current_dir(folder.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        bash.status().unwrap();
        mark.exists()
    };
    assert!(runs_probe("probe"));
    let core = proptest::sample::select(&["probe", "$(probe)", "`probe`", "a[$(probe)]"][..]);
    let lines = proptest::collection::vec(proptest::sample::select(AROUND), 1..5);
    let config = proptest::test_runner::Config::with_cases(3_000);
    proptest::proptest!(config, |(core in core, lines in lines)| {
        let line = lines.iter().fold(core.to_owned(), |inner, outer| around(outer, &inner));
        let read = Line::read(&line);
        let is_seen = !read.doubts.is_empty()
            || read.commands.iter().any(|c| c.program().is_none_or(|p| p == "probe"));
        proptest::prop_assert!(is_seen || !runs_probe(&line), "{line:?}: {read:?}");
    });
}
