use super::*;
use crate::agent::governor::Ceilings;
use crate::store::events::GrantScope;

fn builtin() -> Policy {
    Policy::of(vec![(Origin::Builtin, BUILTIN.to_owned())]).unwrap()
}

pub(super) fn with(layers: &[(&str, &str)]) -> Result<Policy, UserError> {
    let mut texts = vec![(Origin::Builtin, BUILTIN.to_owned())];
    for (who, text) in layers {
        let path = PathBuf::from(who);
        let origin = match *who {
            "organisation" => Origin::Organisation(path),
            "user" => Origin::User(path),
            "repository" => Origin::Repository(path),
            _ => Origin::Task(path),
        };
        texts.push((origin, (*text).to_owned()));
    }
    Policy::of(texts)
}

fn granted(words: &[&str]) -> Vec<Grant> {
    vec![Grant {
        id: "g".into(),
        allows: Permission::Command(words.iter().map(ToString::to_string).collect()),
        scope: GrantScope::Task,
        expires: None,
        by: "user".into(),
    }]
}

/// Lines, one a row: what the built-in rules say, and the line.
const LINES: &str = r#"
allow cargo test
allow cargo test -p parser -- --nocapture
allow RUST_BACKTRACE=1 cargo test
allow /usr/bin/git status
allow git -C sub --no-pager log --oneline
allow grep -rn "a b" src | head -5
allow cd sub && cargo check
allow ls > /dev/null 2>&1
allow cargo test > /tmp/out.txt
allow timeout 30 cargo test
allow env RUST_LOG=debug cargo test
allow find . -name '*.rs' -exec grep -l x {} +
allow for f in a b; do cat $f; done
allow sh -c 'cargo test && git status'
allow echo "$HOME"
allow time cargo build
deny git push
deny git   push origin main
deny g\it push
deny 'git' "push"
deny gi"t" pu's'h
deny $'git' push
deny /usr/bin/git push
deny ./git push
deny git -C . push
deny git --git-dir=.git push
deny git --no-pager -C x push --force
deny GIT_TRACE=1 git push
deny FOO=bar BAR=baz git push
deny true; git push
deny true && git push
deny false || git push
deny true | git push
deny true & git push
deny (git push)
deny { git push; }
deny ! git push
deny echo $(git push)
deny echo "$(git push)"
deny echo "a `git push` b"
deny cat <(git push)
deny x=$(git push) cargo test
deny if true; then git push; fi
deny while false; do git push; done
deny for f in $(git push); do ls; done
deny case x in *) git push;; esac
deny f() { git push; }; f
deny env git push
deny env -i A=b git push
deny env -u HOME git push
deny command git push
deny exec git push
deny builtin git push
deny nohup git push &
deny nice -n 10 git push
deny nice -10 git push
deny stdbuf -oL git push
deny timeout -k 5 10 git push
deny time -p git push
deny xargs git push
deny xargs -n1 -I{} git push {}
deny echo main | xargs -0 git push origin
deny sh -c 'git push'
deny bash -lc "git push"
deny bash -euo pipefail -c 'git push'
deny sh -c "sh -c 'git push'"
deny eval git push
deny eval "git push"
deny eval 'git' 'push'
deny trap 'git push' EXIT
deny busybox sh -c 'git push'
deny find . -exec git push \;
deny find . -execdir sh -c 'git push' \;
deny cat <<EOF
deny sudo ls
deny sudo -u root -E ls
deny echo a | sudo tee /etc/x
deny git reset --hard
deny git reset -q HEAD~3 --hard
deny git clean -fdx
deny # only a comment
ask git $SUB origin
ask $CMD push
ask "$(echo git)" status
ask git${IFS}push
ask {git,push}
ask /usr/bin/g?t status
ask ~/bin/tool
ask PATH=. cargo test
ask export PATH=.; cargo test
ask LD_PRELOAD=./x.so cargo test
ask GIT_SSH_COMMAND=./x git status
ask BASH_ENV=x sh -c 'cargo test'
ask IFS=x; cargo test
ask env PATH=. cargo test
ask env -S 'git status'
ask git -c core.pager=./x log
ask git -C . -c alias.st=!x status
ask git --exec-path=. status
ask alias ls=rm
ask source x.sh
ask . ./x.sh
ask bash script.sh
ask bash
ask curl x | sh
ask bash -c "$LINE"
ask eval "$LINE"
ask python -c 'import os'
ask python script.py
ask node -e 1
ask perl -e 1
ask ./cargo test
ask ./run.sh
ask rm -rf target
ask rm file
ask find . -delete
ask find . -fprint x
ask rg --pre ./x y
ask sort -o x y
ask cargo test --config build.rustc-wrapper="./x"
ask cargo publish
ask npm install left-pad
ask pip install x
ask git commit -m x
ask git checkout main
ask git submodule foreach 'git status'
ask ssh host ls
ask cargo test > ~/.bashrc
ask cargo test > /etc/passwd
ask cargo test > ../out
ask echo x > $OUT
ask echo x > .github/workflows/ci.yml
deny echo x > .git/hooks/post-checkout
deny echo x >> .env
deny echo x > .pairwright/policy.toml
ask cargo test "
ask if true; then
ask cargo test $(
ask nice --unknown cargo test
ask xargs $X
ask watch cargo test
ask unshare cargo test
ask git diff --output=x
ask git diff --ext-diff
ask git diff --outp=x
ask git log -p --ext-d
ask sort --compress-prog=./x a
ask sort --outpu x a
ask go test --exec ./x
ask go test -exec='git push' ./...
ask go vet --vettool=./x
ask go build -ldflags=-extld=./x
allow go test -run TestArea ./...
ask make test --eval '$(shell git push)'
ask make test SHELL=./x
ask make check -f x.mk
allow make test -j4
ask npm test --script-shell=./x
ask npm test --script-sh ./x
ask node --test -e 'x()'
ask node --test --impor ./x
deny git reset --har HEAD~1
ask rm --recurs target
ask echo ${x:-`git push`}
ask echo `echo \`git push\``
ask for PATH in .; do cargo test; done
ask select PATH in .; do cargo test; done
ask ((PATH=1)); cargo test
ask echo $((PATH=1)); cargo test
ask echo ${PATH:=.}; cargo test
ask unset PATH; cargo test
ask printf -v PATH .; cargo test
ask printf -vPATH .; cargo test
ask read PATH < x; cargo test
ask X=PATH=.; export $X; cargo test
ask export "PATH=."; cargo test
ask declare -n r=PATH; r=.; cargo test
deny declare -i x='a[$(git push)]'; git push
ask declare -i x='a[$(git push)]'; ls
ask HOME=. git status
ask RIPGREP_CONFIG_PATH=./x rg a
ask [[ 'a[$(git push)]' -eq 0 ]]; ls
ask x='a[$(git push)]'; ((x)); ls
ask x='a[$(git push)]'; echo $((x + 1))
ask x='a[$(git push)]'; y=x; [[ y -gt 1 ]]; ls
ask x='a[$(git push)]' bash -c 'echo $((x))'
ask x=$(cat a); echo ${y:x}
ask sh -c 'echo $(($1))' x 'a[$(git push)]'
ask test -v 'a[$(git push)]'
ask [ -v 'a[$(git push)]' ]; ls
ask unset 'a[$(git push)]'; ls
ask x='$(git push)'; echo ${x@P}
allow for i in 1 2 3; do echo $((i * 2)); done
allow n=0; while [ $n -lt 3 ]; do n=$((n + 1)); ls; done
allow n=$(cat a | wc -l); [ "$n" -gt 3 ] && echo many
allow for f in *.py; do wc -l "$f"; done
allow echo "${x:0:3}" 'a `b` $(c)'
ask echo rm | xargs -I ls ls -rf /
ask echo rm | xargs -Ils ls -rf /
ask xargs --replace rm ls
ask find push -exec git {} \;
deny find . -exec env -u + git push \;
ask /usr/bin/time -f ls rm file
ask bash --rcfile ./x -ic ls
ask fish -c ls -C 'git push'
ask chroot . ls
deny trap -- 'git push' EXIT
ask coproc git push
ask nice > /dev/null rm file
ask sort > /tmp/x --compress-program=./x
ask cargo test\u{2003}x
ask ｇit push
ask ls g\u{200b}it
ask ls \u{202e}hsup tig
"#;

#[test]
fn lines_are_judged_by_all_they_would_run() {
    let policy = builtin();
    let mut wrong = Vec::new();
    for row in LINES.lines().filter(|row| !row.is_empty()) {
        let (expected, line) = row.split_once(' ').unwrap();
        let line = match line {
            "cat <<EOF" => "cat <<EOF\n$(git push)\nEOF".to_owned(),
            line => written(line),
        };
        let verdict = policy.judge_line(&line, &[]);
        let ruling = format!("{:?}", verdict.ruling).to_lowercase();
        if ruling != expected {
            wrong.push(format!(
                "{ruling} instead of {row}: {} {}",
                verdict.rule, verdict.why
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Characters that are not seen are written as `\u{…}` in the rows.
fn written(line: &str) -> String {
    let mut parts = line.split("\\u{");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').unwrap();
        let code = u32::from_str_radix(code, 16).unwrap();
        written.push(char::from_u32(code).unwrap());
        written.push_str(rest);
    }
    written
}

#[test]
fn hidden_characters_and_endless_lines_are_asked() {
    let policy = builtin();
    let deep = format!("{}ls{}", "$(".repeat(500), ")".repeat(500));
    let long = format!("ls {}", "a ".repeat(20_000));
    let many = "ls;".repeat(1000);
    for line in [
        // The parser and bash read these in two ways.
        "ls\n\\rm file",
        "cat <<''\n\nls",
        "cat <<\"E F\"\nE F\nls",
        "cat <<EOF rm\nx\nEOF",
        "cat <<EOF\n`rm file`\nEOF",
        "cat <<EOF\nx='`rm file`' $x\nEOF",
        "cat <<E | cat <<\"E\"\n`rm file`\nE\nx\nE",
        "echo \"${x:-'$(rm file)'}\"",
        "echo ${x/{ ls; } | rm file/}",
        "[ a || rm file ]",
        "sh -c '((rm file))'; ls",
    ] {
        assert!(policy.judge_line(line, &[]).ruling >= Ruling::Ask, "{line}");
    }
    for line in [
        "ls\ncat a",
        "cat <<EOF\nhello $x\nEOF",
        "cat <<'EOF'\nhello `x` $(y)\nEOF\nls",
        "cat <<-EOF\n\thello\n\tEOF",
    ] {
        let verdict = policy.judge_line(line, &[]);
        assert_eq!(verdict.ruling, Ruling::Allow, "{line}: {verdict:?}");
    }
    for line in ["ls \u{1b}[2K", "ls\r\nx", &deep, &long, &many] {
        assert!(
            policy.judge_line(line, &[]).ruling >= Ruling::Ask,
            "{line:.20}"
        );
    }
}

#[test]
fn any_text_is_judged_without_harm() {
    let policy = builtin();
    proptest::proptest!(|(line in "[a-z $(){};|&<>`'\"\\\\=\n-]{0,60}")| {
        policy.judge_line(&line, &[]);
        // Whatever stands around it, a push is never allowed.
        let around = format!("{line}; git push");
        proptest::prop_assert!(policy.judge_line(&around, &[]).ruling > Ruling::Allow || line.contains(['#', '\'', '"', '`', '\\', '<', '(']));
    });
}

#[test]
fn the_strictest_layer_wins() {
    let allow = "[[command]]\nrun = [\"npm\", \"install\"]\ndecision = \"allow\"\n";
    let deny = "[[command]]\nrun = [\"npm\"]\ndecision = \"deny\"\nwhy = \"no\"\n";
    for (layers, ruling) in [
        (&[][..], Ruling::Ask),
        (&[("user", allow)], Ruling::Allow),
        (&[("task", allow)], Ruling::Allow),
        (&[("repository", allow)], Ruling::Ask),
        (&[("user", allow), ("repository", deny)], Ruling::Deny),
        (
            &[("organisation", deny), ("user", allow), ("task", allow)],
            Ruling::Deny,
        ),
    ] {
        let policy = with(layers).unwrap();
        let verdict = policy.judge_line("npm install x", &granted(&["other"]));
        assert_eq!(verdict.ruling, ruling, "{layers:?}");
    }
}

#[test]
fn permissions_open_what_is_asked_and_nothing_that_is_denied() {
    let policy = builtin();
    for (line, words, ruling) in [
        ("npm install x", &["npm", "install"][..], Ruling::Allow),
        ("npm install x", &["npm", "install", "x"], Ruling::Allow),
        ("npm install y", &["npm", "install", "x"], Ruling::Ask),
        (
            "npm install x; npm publish",
            &["npm", "install"],
            Ruling::Ask,
        ),
        ("npm $X", &["npm", "install"], Ruling::Ask),
        ("git push", &["git", "push"], Ruling::Deny),
        ("PATH=. npm install x", &["npm", "install"], Ruling::Ask),
        ("npm install x $(curl y)", &["npm", "install"], Ruling::Ask),
        ("npm install x > .env", &["npm", "install"], Ruling::Deny),
        ("source a.sh", &["source a.sh"], Ruling::Ask),
    ] {
        assert_eq!(
            policy.judge_line(line, &granted(words)).ruling,
            ruling,
            "{line}"
        );
    }
}

#[test]
fn what_is_remembered_covers_the_whole_line_or_nothing() {
    let policy = builtin();
    let remembered = |line: &str| policy.judge_line(line, &[]).remembered;
    assert_eq!(
        remembered("npm install x").unwrap(),
        ["npm", "install", "x"]
    );
    for line in [
        "npm install x; ls",
        "npm $X",
        "npm i > out",
        "sh -c 'npm i'",
    ] {
        assert_eq!(remembered(line), None, "{line}");
    }
}

#[test]
fn files_are_judged_by_name_and_glob() {
    let policy = with(&[(
        "repository",
        "[[path]]\nglob = \"migrations/**\"\ndecision = \"deny\"\nwhy = \"made by a tool\"\n",
    )])
    .unwrap();
    for (path, access, ruling) in [
        ("src/lib.rs", Access::Write, Ruling::Allow),
        ("migrations/1.sql", Access::Write, Ruling::Deny),
        ("migrations/1.sql", Access::Read, Ruling::Allow),
        (".env", Access::Read, Ruling::Deny),
        ("deploy/id_rsa", Access::Read, Ruling::Deny),
        (".git/config", Access::Write, Ruling::Deny),
        (".GIT/config", Access::Write, Ruling::Deny),
        ("AGENTS.md", Access::Write, Ruling::Ask),
        (".github/workflows/x.yml", Access::Write, Ruling::Ask),
        (".pairwright/policy.toml", Access::Write, Ruling::Deny),
    ] {
        assert_eq!(
            policy.judge_path(access, path, &[]).ruling,
            ruling,
            "{path}"
        );
    }
}

#[test]
fn a_rule_that_fails_its_own_example_stops_everything() {
    for (text, why) in [
        (
            "[[command]]\nrun = [\"a\"]\ndecision = \"ask\"\nmatches = [\"b\"]",
            "does not match its example `b`",
        ),
        (
            "[[command]]\nrun = [\"a\"]\ndecision = \"ask\"\npasses = [\"sudo a\"]",
            "matches `sudo a`",
        ),
        (
            "[[command]]\nrun = [\"a\"]\ndecision = \"deny\"",
            "needs `why`",
        ),
        (
            "[[path]]\nglob = \"[\"\ndecision = \"ask\"",
            "cannot be read",
        ),
        (
            "[[path]]\nglob = \"a/*\"\ndecision = \"ask\"\nmatches = [\"a/b/c\"]",
            "does not match",
        ),
        (
            "[[tool]]\nname = \"mcp__a__*\"\ndecision = \"ask\"\npasses = [\"mcp__a__b\"]",
            "matches `mcp__a__b`",
        ),
        (
            "[[network]]\nhost = \"a.test\"\ndecision = \"ask\"\nmatches = [\"b.test\"]",
            "does not match its example `b.test`",
        ),
        ("comand = []", "unknown field"),
    ] {
        let refused = with(&[("user", text)]).unwrap_err();
        assert!(refused.message.contains(why), "{text}: {refused}");
    }
}

#[test]
fn a_word_that_no_rule_knows_is_told_with_its_line() {
    for about in [
        "[[command]]\nrun = [\"a\"]",
        "[[path]]\nglob = \"a\"",
        "[[tool]]\nname = \"mcp__a__b\"",
        "[[network]]\nhost = \"a.test\"",
    ] {
        let text = format!("modes = [\"plan\"]\n{about}\ndecision = \"ask\"\nexcept = [\"b\"]\n");
        let refused = with(&[("user", &text)]).unwrap_err().message;
        assert!(refused.contains("unknown field `except`"), "{refused}");
        assert!(refused.contains("line "), "{refused}");
    }
}

#[test]
fn the_tightest_ceiling_holds() {
    let policy = with(&[
        ("organisation", "[limits]\nsteps = 30\n"),
        ("user", "[limits]\nsteps = 40\ntokens = 9\n"),
    ])
    .unwrap();
    let limits = policy.limits();
    assert_eq!((limits.steps, limits.tokens), (Some(30), Some(9)));
}

#[test]
fn a_tool_is_denied_when_its_calls_are_used_up() {
    let policy = with(&[
        ("user", "[quotas]\nrun = 2\n\"mcp__a__*\" = 3\n"),
        ("repository", "[quotas]\nrun = 1\ngrep = 0\n"),
    ])
    .unwrap();
    let calls = [("run", 1), ("mcp__a__x", 1), ("mcp__a__y", 2), ("list", 90)];
    let calls = calls.map(|(tool, n)| (tool.to_owned(), n)).into();
    let denied = |tool: &str| {
        let verdict = policy.judge_quota(tool, &calls)?;
        assert_eq!(verdict.ruling, Ruling::Deny);
        Some(verdict.why)
    };
    for (tool, expected) in [
        ("run", Some("a task may call it once")),
        ("grep", Some("a task may not call it")),
        ("mcp__a__z", Some("a task may call it 3 times")),
        ("mcp__b__z", None),
        ("list", None),
    ] {
        assert_eq!(denied(tool).as_deref(), expected, "{tool}");
    }
    let why = with(&[("user", "[quotas]\n\"*\" = 9\n")]).unwrap_err();
    assert!(why.to_string().contains("the tool `finish`"), "{why}");
}

#[test]
fn modes_can_be_taken_away() {
    let policy = with(&[("repository", "modes = [\"review\", \"plan\"]\n")]).unwrap();
    assert!(policy.allows_mode("review"));
    assert!(!policy.allows_mode("auto"));
    assert!(builtin().allows_mode("auto"));
}

#[test]
fn a_repository_lowers_ceilings_and_never_raises_them() {
    let text = "[limits]\nsteps = 5000\ntokens = 1000\nwall_seconds = 86400\n";
    let of = |layers: &[(&str, &str)]| Ceilings::of(&with(layers).unwrap().limits());
    let mut expected = Ceilings::of(&Limits::default());
    expected.tokens = 1000;
    assert_eq!(of(&[("repository", text)]), expected);
    expected.steps = 80;
    let user = "[limits]\nsteps = 80\n";
    assert_eq!(of(&[("user", user), ("repository", text)]), expected);
}

#[test]
fn a_ceiling_of_nothing_stops_the_task_before_it_starts() {
    let why = with(&[("user", "[limits]\ncommand_seconds = 0\n")]).unwrap_err();
    assert!(
        why.to_string()
            .contains("`command_seconds` must be more than 0"),
        "{why}"
    );
}

#[test]
fn a_permission_for_a_glob_holds_for_the_paths_it_matches_and_no_others() {
    let asks = "[[path]]\nglob = \"**\"\ndecision = \"ask\"\n";
    let policy = with(&[("user", asks)]).unwrap();
    let ruling_of = |glob: &str, path: &str| {
        let grant = Grant {
            allows: Permission::Path(glob.into()),
            ..granted(&["x"]).remove(0)
        };
        policy.judge_path(Access::Write, path, &[grant]).ruling
    };
    for (glob, path, ruling) in [
        ("migrations/**", "migrations/2/up.sql", Ruling::Allow),
        ("migrations/*", "migrations/2/up.sql", Ruling::Ask),
        ("migrations/**", "src/up.sql", Ruling::Ask),
        ("a/[[]id].ts", "a/[id].ts", Ruling::Allow),
        ("a/[[]id].ts", "a/i.ts", Ruling::Ask),
    ] {
        assert_eq!(ruling_of(glob, path), ruling, "{glob}: {path}");
    }
}

#[test]
fn hosts_are_asked_for_unless_rules_or_permissions_say_so() {
    let user = "[[network]]\nhost = \"docs.test\"\ndecision = \"allow\"\n\
                [[network]]\nhost = \"*.mirror.test\"\ndecision = \"allow\"\n";
    let repository = "[[network]]\nhost = \"*\"\ndecision = \"allow\"\n\
                      [[network]]\nhost = \"*.tracker.test\"\ndecision = \"deny\"\nwhy = \"no\"\n\
                      [[network]]\nhost = \"old.test\"\ndecision = \"deny\"\nwhy = \"no\"\n";
    let policy = with(&[("user", user), ("repository", repository)]).unwrap();
    let grant = Grant {
        allows: Permission::Network("given.test".into()),
        ..granted(&["x"]).remove(0)
    };
    for (host, ruling) in [
        // A repository allows nothing.
        ("any.test", Ruling::Ask),
        ("docs.test", Ruling::Allow),
        ("DOCS.test", Ruling::Allow),
        ("docs.test:22", Ruling::Ask),
        ("x.docs.test", Ruling::Ask),
        ("*.docs.test", Ruling::Ask),
        ("a.b.mirror.test", Ruling::Allow),
        ("mirror.test", Ruling::Ask),
        ("evilmirror.test", Ruling::Ask),
        ("up.tracker.test", Ruling::Deny),
        ("up.tracker.test:8080", Ruling::Deny),
        ("*.tracker.test", Ruling::Deny),
        // All below it would be it too.
        ("*.test", Ruling::Deny),
        ("old.test", Ruling::Deny),
        ("given.test", Ruling::Allow),
        ("given.test:22", Ruling::Ask),
        ("*.given.test", Ruling::Ask),
    ] {
        let found = policy.judge_network(host, std::slice::from_ref(&grant));
        assert_eq!(found.ruling, ruling, "{host}: {found:?}");
    }
    let why = with(&[(
        "user",
        "[[network]]\nhost = \"x.test\"\ndecision = \"deny\"\n",
    )]);
    assert!(why.unwrap_err().to_string().contains("needs `why`"));
}
