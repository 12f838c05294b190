//! Programs that run other programs, and what they run.
//!
//! Holds: an option that is not known to a wrapper here makes what it runs hidden, not harmless.

use super::{Simple, Word};

/// What a wrapper leads to.
pub(super) enum Inner {
    Words(Vec<Word>),
    /// A line that a shell reads.
    Text(String),
    /// A variable that is set for what it runs.
    Assigns(String),
    /// Something that cannot be told, and why.
    Hidden(String),
}

/// How the arguments of a wrapper are read.
struct Shape {
    /// Options that take the next word.
    valued: &'static [&'static str],
    /// Options that stand alone.
    flags: &'static [&'static str],
    /// Words before the command: `timeout 5 …`.
    positional: usize,
    /// `NAME=value` may stand before the command.
    assigns: bool,
}

const NONE: Shape = Shape {
    valued: &[],
    flags: &[],
    positional: 0,
    assigns: false,
};

const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "rbash",
];

fn shape(program: &str) -> Option<Shape> {
    Some(match program {
        "sudo" | "doas" => Shape {
            valued: &[
                "-u", "-g", "-h", "-p", "-C", "-T", "-r", "-t", "-D", "-R", "-U", "--user",
                "--group",
            ],
            flags: &["-n", "-E", "-H", "-S", "-b", "-k", "-i", "-s", "-A", "-P"],
            assigns: true,
            ..NONE
        },
        "env" => Shape {
            valued: &["-u", "--unset", "-C", "--chdir"],
            flags: &[
                "-i",
                "-",
                "-0",
                "--ignore-environment",
                "--null",
                "-v",
                "--debug",
            ],
            assigns: true,
            ..NONE
        },
        "nohup" | "builtin" => NONE,
        // The program of this name takes other options than bash's word.
        "time" | "unbuffer" | "command" => Shape {
            flags: &["-p"],
            ..NONE
        },
        "setsid" => Shape {
            flags: &["-c", "-f", "-w", "--ctty", "--fork", "--wait"],
            ..NONE
        },
        "caffeinate" => Shape {
            flags: &["-d", "-i", "-m", "-s", "-u"],
            ..NONE
        },
        "exec" => Shape {
            valued: &["-a"],
            flags: &["-c", "-l"],
            ..NONE
        },
        "nice" => Shape {
            valued: &["-n", "--adjustment"],
            ..NONE
        },
        "ionice" => Shape {
            valued: &["-c", "-n", "--class", "--classdata"],
            flags: &["-t"],
            ..NONE
        },
        "stdbuf" => Shape {
            valued: &["-i", "-o", "-e"],
            ..NONE
        },
        "timeout" => Shape {
            valued: &["-s", "--signal", "-k", "--kill-after"],
            flags: &["--foreground", "--preserve-status", "-v", "--verbose"],
            positional: 1,
            ..NONE
        },
        "taskset" => Shape {
            positional: 1,
            ..NONE
        },
        "busybox" | "toybox" => NONE,
        "xargs" => Shape {
            valued: &[
                "-a",
                "-d",
                "-E",
                "-I",
                "-L",
                "-n",
                "-P",
                "-s",
                "--max-args",
                "--max-procs",
                "--delimiter",
                "--arg-file",
            ],
            flags: &[
                "-0",
                "-r",
                "-t",
                "-p",
                "-x",
                "--null",
                "--no-run-if-empty",
                "--verbose",
                "--exit",
            ],
            ..NONE
        },
        _ => return None,
    })
}

/// Returns what a command runs besides itself; nothing for a program that runs no other.
pub(super) fn inner(simple: &Simple) -> Vec<Inner> {
    let Some(program) = simple.program() else {
        return Vec::new();
    };
    let arguments = &simple.words[1..];
    match program {
        "env" if arguments.iter().any(is_split) => hidden("env splits a text into a command"),
        "command" if matches!(known(arguments.first()), Some("-v" | "-V")) => Vec::new(),
        "eval" => line_of(arguments, "eval runs a text that is computed"),
        "watch" => hidden("watch runs a text again and again"),
        "parallel" | "script" | "su" | "runuser" | "ssh" | "flock" | "expect" | "at" | "batch"
        | "crontab" | "systemd-run" | "unshare" | "nsenter" | "setarch" | "chrt" | "strace"
        | "ltrace" | "gdb" | "rlwrap" | "socat" | "chroot" | "coproc" => {
            hidden(&format!("{program} runs commands of its own"))
        }
        "source" | "." => hidden("it runs the lines of a file"),
        "alias" => hidden("it gives commands other names"),
        "trap" => {
            let is_end = known(arguments.first()) == Some("--");
            match &arguments[usize::from(is_end)..] {
                [first, _, ..] => line_of(
                    std::slice::from_ref(first),
                    "trap runs a text that is computed",
                ),
                _ => Vec::new(),
            }
        }
        "find" => find(arguments),
        "git" => git(arguments),
        _ if SHELLS.contains(&program) => shell(program, arguments),
        _ => match shape(program) {
            Some(shape) => wrapped(program, &shape, arguments),
            None => Vec::new(),
        },
    }
}

fn known(word: Option<&Word>) -> Option<&str> {
    word.and_then(Word::known)
}

fn hidden(why: &str) -> Vec<Inner> {
    vec![Inner::Hidden(why.to_owned())]
}

fn is_split(word: &Word) -> bool {
    word.known().is_none_or(|w| {
        w.starts_with("-S") || w.starts_with("--split") || (is_cluster(w) && w.contains('S'))
    })
}

/// `-abc`: several short options in one word.
fn is_cluster(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.len() > 2
}

fn line_of(words: &[Word], why: &str) -> Vec<Inner> {
    let texts: Option<Vec<&str>> = words.iter().map(Word::known).collect();
    match texts {
        Some(texts) => vec![Inner::Text(texts.join(" "))],
        None => hidden(why),
    }
}

fn wrapped(program: &str, shape: &Shape, arguments: &[Word]) -> Vec<Inner> {
    let mut inner = Vec::new();
    let mut rest = arguments;
    let mut n_positional = shape.positional;
    while let Some((first, after)) = rest.split_first() {
        let Some(text) = first.known() else {
            return hidden(&format!("what {program} runs is computed"));
        };
        if text == "--" {
            rest = after;
            break;
        }
        if let Some(option) = text.strip_prefix('-') {
            let name = text.split('=').next().unwrap_or(text);
            let takes_next = shape.valued.contains(&text);
            let is_known = takes_next
                || shape.flags.contains(&text)
                || (name != text && shape.valued.contains(&name))
                // `-n10`, `-oL`, `-u root` written together, and `nice -10`.
                || shape.valued.iter().any(|v| v.len() == 2 && text.starts_with(v))
                || (program == "nice" && option.bytes().all(|b| b.is_ascii_digit()));
            if !is_known {
                return hidden(&format!("{program} {name} is not known here"));
            }
            rest = after.get(usize::from(takes_next)..).unwrap_or_default();
            continue;
        }
        if let (true, Some((name, _))) = (shape.assigns, text.split_once('=')) {
            inner.push(Inner::Assigns(name.to_owned()));
            rest = after;
            continue;
        }
        if n_positional > 0 {
            n_positional -= 1;
            rest = after;
            continue;
        }
        break;
    }
    if !rest.is_empty() {
        let mut words = rest.to_vec();
        if program == "xargs" {
            // What is read is appended, or put in place of a word of the user's choice.
            let placeholder = placeholder(arguments);
            for word in &mut words {
                if let (Some(text), Some(part)) = (word.known(), placeholder)
                    && text.contains(part)
                {
                    *word = Word::Unknown;
                }
            }
            words.push(Word::Unknown);
        }
        inner.push(Inner::Words(words));
    }
    inner
}

/// What `xargs` replaces: the word behind `-I`, or in it.
fn placeholder(arguments: &[Word]) -> Option<&str> {
    let mut words = arguments.iter().filter_map(Word::known);
    while let Some(word) = words.next() {
        match word.strip_prefix("-I") {
            Some("") => return words.next(),
            Some(attached) => return Some(attached),
            None => {}
        }
    }
    None
}

fn shell(program: &str, arguments: &[Word]) -> Vec<Inner> {
    if program == "fish" {
        // Options that run something may stand anywhere.
        return hidden("fish runs commands of its own");
    }
    let mut takes_line = false;
    let mut rest = arguments;
    while let Some((first, after)) = rest.split_first() {
        let Some(text) = first.known() else {
            return hidden(&format!("what {program} runs is computed"));
        };
        if !text.starts_with(['-', '+']) || text == "-" {
            break;
        }
        if text.starts_with("--rcfile") || text.starts_with("--init-file") {
            return hidden(&format!("{program} runs the lines of a file"));
        }
        let is_cluster = !text.starts_with("--");
        takes_line |= is_cluster && text.contains('c') || text == "--command";
        let takes_next = is_cluster && text.ends_with(['o', 'O']);
        rest = after.get(usize::from(takes_next)..).unwrap_or_default();
    }
    let is_bash = matches!(program, "bash" | "rbash");
    match (takes_line, rest.first()) {
        // These are commands to shells that do not know them.
        (true, Some(line)) if !is_bash && line.known().is_some_and(has_words_of_bash) => hidden(
            &format!("{program} reads the line in another way than bash"),
        ),
        (true, Some(line)) => line_of(
            std::slice::from_ref(line),
            &format!("what {program} runs is computed"),
        ),
        (true, None) => hidden(&format!("what {program} runs is computed")),
        (false, _) => hidden(&format!(
            "{program} runs the lines of a file or of its input"
        )),
    }
}

fn has_words_of_bash(line: &str) -> bool {
    ["((", "[[", "$'", "$\""]
        .iter()
        .any(|word| line.contains(word))
}

fn find(arguments: &[Word]) -> Vec<Inner> {
    let mut inner = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if let Some("-exec" | "-execdir" | "-ok" | "-okdir") = word.known() {
            let mut words: Vec<Word> = Vec::new();
            for word in rest.by_ref() {
                let is_many = word.known() == Some("+") && words.last() == Some(&Word::Unknown);
                if is_many || word.known() == Some(";") {
                    break;
                }
                // The name of whatever file is found.
                words.push(match word.known() {
                    Some(text) if text.contains("{}") => Word::Unknown,
                    _ => word.clone(),
                });
            }
            inner.push(Inner::Words(words));
        }
    }
    inner
}

/// Settings given to git on the command line can name programs.
fn git(arguments: &[Word]) -> Vec<Inner> {
    let options = &arguments[..git_options(arguments)];
    let names_programs = |word: &Word| {
        word.known().is_some_and(|text| {
            text.starts_with("-c")
                || text.starts_with("--config-env")
                || text.starts_with("--exec-path=")
        })
    };
    match options.iter().any(names_programs) {
        true => hidden("it changes settings of git, which can name programs"),
        false => Vec::new(),
    }
}

/// How many words stand before git's subcommand.
pub(in crate::agent::policy) fn git_options(arguments: &[Word]) -> usize {
    const VALUED: &[&str] = &[
        "-C",
        "-c",
        "--git-dir",
        "--work-tree",
        "--namespace",
        "--config-env",
        "--attr-source",
    ];
    let mut at = 0;
    while let Some(text) = known(arguments.get(at)).filter(|text| text.starts_with('-')) {
        at += if VALUED.contains(&text) { 2 } else { 1 };
    }
    at.min(arguments.len())
}
