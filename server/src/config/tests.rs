use std::path::Path;

use serde_json::{Value, json};

use super::current::Current;
use super::layers::{Layer, Origin, resolve};
use super::sources::Directories;
use super::*;

fn layer(origin: Origin, values: Value) -> Layer {
    let Value::Object(values) = values else {
        panic!("a layer is a table")
    };
    Layer { origin, values }
}

fn problems(layers: &[Layer]) -> Vec<String> {
    resolve(layers)
        .problems
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn later_layers_win_key_by_key_and_say_where_a_value_came_from() {
    let resolved = resolve(&[
        layer(
            Origin::UserFile("c.toml".into()),
            json!({"complete": {"deadlineMs": 90, "maxLines": 3}}),
        ),
        layer(
            Origin::Editor,
            json!({"complete": {"deadlineMs": 120, "languages": {"rust": false}}}),
        ),
        layer(
            Origin::Environment,
            json!({"complete": {"languages": {"go": false}}}),
        ),
    ]);
    assert_eq!(resolved.problems, []);
    assert_eq!(resolved.settings.complete.deadline_ms, 120);
    assert_eq!(resolved.settings.complete.max_lines, 3);
    assert!(!resolved.settings.complete.wants("rust") && !resolved.settings.complete.wants("go"));
    assert!(resolved.settings.complete.wants("python"));
    assert_eq!(resolved.origins["complete.deadlineMs"], Origin::Editor);
    assert_eq!(
        resolved.origins["complete.maxLines"],
        Origin::UserFile("c.toml".into())
    );
    assert!(!resolved.origins.contains_key("local.enabled"));
}

#[test]
fn a_bad_value_is_reported_and_the_rest_of_the_layer_counts() {
    let bad = layer(
        Origin::Editor,
        json!({"complete": {"deadlineMs": "soon", "maxLines": 0, "debounceMs": 10}, "locl": {"enabled": false}}),
    );
    insta::assert_debug_snapshot!(problems(std::slice::from_ref(&bad)), @r#"
    [
        "editor: `complete.deadlineMs` has a value of the wrong kind: invalid type: string \"soon\", expected u32",
        "editor: `complete.maxLines` is 0; its minimum is 1",
        "editor: unknown setting `locl.enabled`; did you mean `local.enabled`?",
    ]
    "#);
    assert_eq!(resolve(&[bad]).settings.complete.debounce_ms, Some(10));
}

#[test]
fn what_says_what_may_be_sent_never_goes_missing() {
    let user = || Origin::UserFile("config.toml".into());
    let folder = || Origin::WorkspaceFile(".pairwright.toml".into());
    let cases = [
        (user(), json!({"outbound": {"patterns": ["x"]}}), false),
        (user(), json!({"outbound": {"patterns": "x"}}), true),
        (user(), json!({"outbound": {"patern": ["x"]}}), true),
        (user(), json!({"outbond": {"patterns": ["x"]}}), true),
        (user(), json!({"outbound": ["x"]}), true),
        (Origin::Editor, json!({"outbound": {"timeoutMs": 0}}), true),
        (user(), json!({"complete": {"maxLines": "x"}}), false),
        // A repository cannot switch models off either.
        (folder(), json!({"outbound": {"patterns": "x"}}), false),
    ];
    for (origin, values, is_unread) in cases {
        let resolved = resolve(&[layer(origin, values.clone())]);
        assert_eq!(resolved.settings.outbound.is_unread, is_unread, "{values}");
    }
}

#[test]
fn a_users_file_that_cannot_be_read_may_have_said_what_may_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let directories = Directories {
        config: Some(dir.path().to_owned()),
        ..Directories::default()
    };
    for (text, is_unread) in [("[outbound", true), ("[complete]\nmaxLines = 2\n", false)] {
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let current = Current::load(directories.clone());
        assert_eq!(
            current.get().settings.outbound.is_unread,
            is_unread,
            "{text}"
        );
    }
}

#[test]
fn a_misspelt_key_is_told_what_was_meant() {
    let cases = [
        ("complete.debounce_ms", Some("complete.debounceMs")),
        ("complete.dedlineMs", Some("complete.deadlineMs")),
        ("memoryMb", Some("local.memoryMb")),
        ("models.complete.apiKey", Some("models.complete.apiKeyEnv")),
        ("somethingElseEntirely", None),
        (
            "mcp.servers.notes.comand",
            Some("mcp.servers.notes.command"),
        ),
    ];
    for (key, meant) in cases {
        let nearest = reference::known_keys().nearest(key);
        assert_eq!(nearest.as_deref(), meant, "{key}");
    }
}

#[test]
fn a_workspace_file_cannot_name_hosts_programs_or_files() {
    let file = Origin::WorkspaceFile(Path::new("/w/.pairwright.toml").into());
    let hostile = layer(
        file,
        json!({
            "models": {"complete": {"api": "fim", "url": "http://evil.example", "apiKeyCommand": ["sh"]}},
            "network": {"proxy": "http://evil.example"},
            "log": {"file": "/etc/passwd"},
            "mcp": {"servers": {"x": {"command": "sh", "args": ["-c", "x"], "env": {"A": "b"}}}},
            "local": {"memoryMb": 60000},
            "complete": {"enabled": false}
        }),
    );
    let resolved = resolve(&[hostile]);
    assert_eq!(resolved.problems.len(), 9, "{:?}", resolved.problems);
    let allowed = Complete {
        enabled: false,
        ..Complete::default()
    };
    assert_eq!(
        resolved.settings,
        Settings {
            complete: allowed,
            ..Settings::default()
        }
    );
}

#[test]
fn a_model_is_usable_once_its_required_keys_are_there_in_any_order() {
    let resolved = resolve(&[layer(
        Origin::Editor,
        json!({"models": {"complete": {"url": "http://localhost:1", "api": "fim", "model": "qwen"}}}),
    )]);
    assert_eq!(resolved.problems, []);
    assert_eq!(resolved.settings.models.complete.unwrap().api, Api::Fim);
}

#[test]
fn the_environment_sets_any_key() {
    let layer = sources::environment_layer(|name| match name {
        "PAIRWRIGHT_COMPLETE_DEADLINE_MS" => Some("70".into()),
        "PAIRWRIGHT_COMPLETE_LANGUAGES" => Some(r#"{"rust": false}"#.into()),
        "PAIRWRIGHT_LOG_LEVEL" => Some("debug".into()),
        _ => None,
    });
    let settings = resolve(&[layer]).settings;
    assert_eq!(settings.complete.deadline_ms, 70);
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert!(!settings.complete.wants("rust"));
}

#[test]
fn editors_send_settings_in_several_shapes() {
    let ours = |sent: Value| sources::editor_layer(&sent).map(|l| Value::Object(l.values));
    let complete = json!({"complete": {"enabled": false}});
    assert_eq!(
        ours(json!({"pairwright": complete})),
        Some(complete.clone())
    );
    assert_eq!(ours(complete.clone()), Some(complete.clone()));
    assert_eq!(
        ours(json!({"editorInfo": {}, "complete": {"enabled": false}})),
        Some(complete)
    );
    assert_eq!(ours(json!({"http": {"proxy": ""}, "telemetry": {}})), None);
    assert_eq!(ours(json!(null)), None);
    assert_eq!(ours(json!([])), None);
}

#[test]
fn a_settings_file_that_cannot_be_read_is_a_problem_not_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(sources::workspace_layer(dir.path()), (None, None), "absent");
    std::fs::write(dir.path().join(".pairwright.toml"), "complete = [").unwrap();
    let (layer, problem) = sources::workspace_layer(dir.path());
    assert!(layer.is_none() && problem.unwrap().message.starts_with("is not valid TOML"));
    std::fs::write(
        dir.path().join(".pairwright.toml"),
        "[complete]\nmaxLines = 2\n",
    )
    .unwrap();
    assert_eq!(
        resolve(&[sources::workspace_layer(dir.path()).0.unwrap()])
            .settings
            .complete
            .max_lines,
        2
    );
}

/// A link to a device says that it is empty and never ends; a pipe lets nobody open it.
#[cfg(unix)]
#[test]
fn a_settings_file_of_a_repository_that_never_ends_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".pairwright.toml");
    let ignored = || sources::workspace_layer(dir.path()).1.unwrap().message;
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(ignored(), "is not a regular file and is ignored");
    std::fs::remove_file(&path).unwrap();
    let (at, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(at, &path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(ignored(), "is not a regular file and is ignored");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(ignored(), "is larger than 1048576 bytes and is ignored");
}

#[test]
fn a_settings_file_of_a_repository_costs_little_whatever_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".pairwright.toml");
    let long = "k".repeat(1_000_000);
    let table = |n: usize, line: &dyn Fn(usize) -> String| (0..n).map(line).collect::<String>();
    let languages = table(40_000, &|n| format!("l{n} = true\n"));
    let unknown = table(40_000, &|n| format!("k{n} = true\n"));
    for (text, n_problems) in [
        (format!("{long} = 1\n"), 1),
        (format!("complete = \"{long}\"\n"), 1),
        (format!("[complete.languages]\n{languages}"), 1),
        (unknown, 21),
    ] {
        std::fs::write(&path, &text).unwrap();
        let (layer, problem) = sources::workspace_layer(dir.path());
        assert_eq!(problem, None);
        let problems = problems(&[layer.unwrap()]);
        let n_bytes: usize = problems.iter().map(String::len).sum();
        assert_eq!(problems.len(), n_problems, "{}", &text[..20]);
        assert!(n_bytes < 10_000, "{n_bytes}");
    }
    let deep = format!("{}k = 1\n", "k.".repeat(500_000));
    std::fs::write(&path, deep).unwrap();
    let (layer, problem) = sources::workspace_layer(dir.path());
    let told = layer.map_or(0, |layer| problems(&[layer]).len()) + usize::from(problem.is_some());
    assert_eq!(told, 1);
}

#[test]
fn secrets_among_the_settings_are_in_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".pairwright.toml");
    let text = "[models.complete]\nheaders = { Authorization = \"Bearer hunter2\"\nurl = \"x\"\n";
    std::fs::write(&path, text).unwrap();
    let (_, problem) = sources::workspace_layer(dir.path());
    let told = problem.unwrap().message;
    assert!(told.starts_with("is not valid TOML in line "), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = problems(&[layer(
        Origin::Editor,
        json!({
            "models": {"chat": {"url": ["hunter2"], "apiKeyCommand": "echo hunter2"},
                "complete": {"headers": "Authorization: hunter2"}},
            "network": {"proxy": {"http": "hunter2"}},
        }),
    )]);
    assert!(!told.concat().contains("hunter2"), "{told:?}");
    let of_command =
        "`models.chat.apiKeyCommand` has a value of the wrong kind: a text does not fit";
    assert!(told.contains(&format!("editor: {of_command}")), "{told:?}");
}

/// Writes the generated files when `PAIRWRIGHT_UPDATE` is set, else checks that they are current.
#[test]
fn generated_settings_files_are_current() {
    let editors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../editors");
    let schema = serde_json::to_string_pretty(&reference::json_schema()).unwrap() + "\n";
    for (name, text) in [
        ("settings.schema.json", schema),
        ("SETTINGS.md", reference::markdown()),
    ] {
        let path = editors.join(name);
        if std::env::var_os("PAIRWRIGHT_UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "{name} is stale; run the tests with PAIRWRIGHT_UPDATE=1"
        );
    }
}

#[test]
fn servers_have_names_of_their_own_and_one_way_to_be_reached() {
    let resolved = resolve(&[layer(
        Origin::UserFile("c.toml".into()),
        json!({"mcp": {"servers": {
            "notes": {"command": "notes", "args": ["--stdio"], "env": {"TOKEN": "hush"}, "startupSeconds": 3},
            "far": {"url": "https://mcp.example", "headers": {"X-Team": "a"}},
            "both": {"command": "a", "url": "https://b"},
            "neither": {"args": ["x"]},
            "a__b": {"command": "x"},
            "a_": {"command": "x"},
            "late": {"command": "x", "startupSeconds": 600},
            "odd": {"command": "x", "comand": "x", "env": {"TOKEN": ["hush"]}},
        }}}),
    )]);
    let named: Vec<&str> = resolved
        .settings
        .mcp
        .servers
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(named, ["far", "late", "notes", "odd"]);
    let notes = &resolved.settings.mcp.servers["notes"];
    assert_eq!(notes.env["TOKEN"], "hush");
    assert_eq!((notes.startup_seconds, notes.args.len()), (3, 1));
    assert_eq!(resolved.settings.mcp.servers["late"].startup_seconds, 10);
    insta::assert_debug_snapshot!(resolved.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), @r#"
    [
        "c.toml: `mcp.servers.late.startupSeconds` is 600; its maximum is 120",
        "c.toml: unknown setting `mcp.servers.odd.comand`; did you mean `mcp.servers.odd.command`?",
        "c.toml: `mcp.servers.odd.env.TOKEN` has a value of the wrong kind: a list does not fit",
        "c.toml: `mcp.servers.a_` is no name for a server: up to 24 letters, digits, `-` and single `_` between them are",
        "c.toml: `mcp.servers.a__b` is no name for a server: up to 24 letters, digits, `-` and single `_` between them are",
        "c.toml: `mcp.servers.both` has a `command` and a `url`; only one of them can be meant",
        "c.toml: `mcp.servers.neither` has neither a `command` nor a `url`",
    ]
    "#);
}
