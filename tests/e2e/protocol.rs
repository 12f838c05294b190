//! `editors/PROTOCOL.md` lists what the server speaks: all of it, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::World;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The names in the first column of the tables below `## heading`.
fn listed(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("editors/PROTOCOL.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

/// The methods of ours that the sources of the language server name, outside comments.
fn named(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named(&path, names);
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        for line in code {
            for (at, _) in line.match_indices("\"pairwright/") {
                let name = line[at + 1..].split('"').next().unwrap();
                names.insert(name.to_owned());
            }
        }
    }
}

#[test]
fn every_command_is_listed_and_every_listed_one_is_there() {
    let world = World::new(&[]);
    let mut client = world.server();
    let answer = client.initialize(&world.root()).unwrap().result.unwrap();
    let offered = &answer["capabilities"]["executeCommandProvider"]["commands"];
    let offered: BTreeSet<String> = serde_json::from_value(offered.clone()).unwrap();
    assert_eq!(listed("Commands"), offered);
}

#[test]
fn every_listed_request_is_answered_and_every_command_is_run() {
    let world = World::new(&[]);
    let mut client = world.session();
    let requests = listed("Requests");
    assert!(requests.len() > 5, "{requests:?}");
    for method in requests {
        let answer = client.request(&method, &Value::Null).unwrap();
        let code = answer.result.err().map(|why| why.code.code());
        assert_ne!(code, Some(-32601), "{method} is not there");
    }
    for command in listed("Commands") {
        let params = json!({ "command": command, "arguments": [] });
        let answer = client.request("workspace/executeCommand", &params).unwrap();
        let why = answer.result.err().map(|why| why.message.to_string());
        let unknown = why.filter(|why| why.contains("is not a command"));
        assert_eq!(unknown, None, "{command}");
    }
}

#[test]
fn every_method_that_the_server_names_is_listed() {
    let mut names = BTreeSet::new();
    named(&repository().join("server/src/lsp"), &mut names);
    let registrations = fs::read_to_string(repository().join("server/src/lsp.rs")).unwrap();
    for (at, _) in registrations.match_indices("\"pairwright/") {
        let name = registrations[at + 1..].split('"').next().unwrap();
        names.insert(name.to_owned());
    }
    // Tokens of progress and the beginning of a version are no methods.
    let is_method =
        |name: &str| !name.contains('{') && !name.ends_with('/') && name != "pairwright/learning";
    names.retain(|name| is_method(name));
    let mut documented = listed("Requests");
    let notifications = listed("Notifications");
    documented.extend(
        notifications
            .into_iter()
            .filter(|name| name.starts_with("pairwright/")),
    );
    assert_eq!(documented, names);
}
