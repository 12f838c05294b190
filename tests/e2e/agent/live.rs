//! What a task changes is seen while it works, and nothing of it can be applied before its end.

use model_server::{Answer, Call, Ending, ModelServer, Turn};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::kill::recorded;
use super::run::{Script, Stage, files};
use crate::world::World;

/// Bytes of hunks that one event has at most.
const MAX_PATCH: usize = 32 << 10;

fn patches(event: &Value) -> Vec<(&str, &str)> {
    let files = event["files"].as_array().unwrap().iter();
    files
        .filter_map(|file| Some((file["path"].as_str()?, file["patch"].as_str()?)))
        .collect()
}

fn of_kind<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|e| e["kind"] == kind).collect()
}

#[test]
fn each_edit_is_told_with_the_hunks_so_far_of_the_files_it_changed() {
    let mut script = String::from("[[turn]]\n");
    for (path, old, new) in [
        ("a.txt", "one", "1"),
        ("b.txt", "two", "2"),
        ("a.txt", "six", "6"),
    ] {
        script.push_str(&format!(
            "[[turn.call]]\nname = 'edit'\narguments = {{ path = '{path}', oldString = '{old}', newString = '{new}' }}\n"
        ));
    }
    script
        .push_str("[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n");
    let script: Script = toml::from_str(&script).unwrap();
    let lines = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n";
    let stage = Stage::with(script, World::new(&[("a.txt", lines), ("b.txt", "two\n")]));
    let before = files(&stage.world.root());
    let (events, _) = stage.task().until_it_ends();
    let told: Vec<_> = of_kind(&events, "diff").into_iter().map(patches).collect();
    let first = "@@ -1,4 +1,4 @@\n-one\n+1\n two\n three\n four\n";
    let both =
        "@@ -1,9 +1,9 @@\n-one\n+1\n two\n three\n four\n five\n-six\n+6\n seven\n eight\n nine\n";
    let expected = [
        vec![("a.txt", first)],
        vec![("b.txt", "@@ -1,1 +1,1 @@\n-two\n+2\n")],
        vec![("a.txt", both)],
        // What can be decided is listed by the hunks themselves.
        vec![],
    ];
    assert_eq!(told, expected);
    assert_eq!(files(&stage.world.root()), before);
    let listed = stage.command(&["edits"]);
    assert!(listed.status.success());
    stage.stop();
}

#[test]
fn however_much_is_edited_what_is_told_of_it_is_bounded() {
    let text: String = (0..5_000)
        .map(|n| format!("line {n} is as it was\n"))
        .collect();
    let calls: String = (0..40)
        .map(|n| {
            let lines: String = (n * 120..n * 120 + 100)
                .map(|n| format!("-line {n} is as it was\n+{n}\n"))
                .collect();
            let patch = format!(
                "--- a/long.txt\n+++ b/long.txt\n@@ -{0},100 +{0},100 @@\n{lines}",
                n * 120 + 1
            );
            format!(
                "[[turn.call]]\nname = 'edit'\narguments = {{ patch = {} }}\n",
                json!(patch)
            )
        })
        .collect();
    let script = format!(
        "[[turn]]\n{calls}[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = {{ summary = 'Done.' }}\n"
    );
    let script: Script = toml::from_str(&script).unwrap();
    let stage = Stage::with(script, World::new(&[("long.txt", &text)]));
    let (events, _) = stage.task().until_it_ends();
    let diffs = of_kind(&events, "diff");
    assert_eq!(diffs.len(), 41, "{:?}", of_kind(&events, "tool_result"));
    assert_eq!(diffs[40]["files"][0]["added"], 4_000);
    for diff in &diffs[..40] {
        let told: usize = patches(diff).iter().map(|(_, patch)| patch.len()).sum();
        assert!(0 < told && told <= MAX_PATCH, "{told}");
    }
    let (_, last) = patches(diffs[39])[0];
    assert!(last.ends_with(" lines more are not shown\n"), "{last}");
    stage.stop();
}

#[test]
fn of_a_private_key_that_a_command_prints_in_parts_nothing_is_told() {
    // A call that has such a mark itself is not carried out.
    let [begin, end] = ["BEGIN", "END"].map(|mark| format!("-----{mark} PRIVATE'' KEY-----"));
    let command = format!(
        "echo before; echo '{begin}'; sleep 0.3; echo MIIEsecret; sleep 0.3; echo MIIEmore; echo '{end}'; echo behind"
    );
    let call = |name: &str, arguments: &str| {
        format!("[[turn]]\n[[turn.call]]\nname = '{name}'\narguments = {{ {arguments} }}\n")
    };
    let script = format!(
        "answers = [{{ decision = 'yes' }}]\n{}{}",
        call("run", &format!("command = \"{command}\"")),
        call("finish", "summary = 'Done.'")
    );
    let script: Script = toml::from_str(&script).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
    let (events, _) = stage.task().until_it_ends();
    let told: String = of_kind(&events, "tool_output")
        .into_iter()
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(told, "before\n[redacted private key]\nbehind\n");
    let result = of_kind(&events, "tool_result")[0].to_string();
    assert!(
        result.contains("behind") && !result.contains("MIIE"),
        "{result}"
    );
    stage.stop();
}

/// The model stands still in the middle of its call: what there is of it is told, and is no more than
/// that.
#[test]
fn lines_are_told_while_the_model_still_writes_them() {
    let runtime = Runtime::new().unwrap();
    let arguments = json!({ "path": "new.py", "content": "first = 1\nsecond = 2\nthird = 3" });
    let hangs = move |_: &model_server::Seen| {
        let call = Call::new("x", "edit", &arguments);
        Answer::turn(Turn::calls("", [call]).ending(Ending::Hang))
    };
    let server = runtime.block_on(ModelServer::start(hangs));
    let stage = Stage::with(Script::default(), World::new(&[("a.txt", "one\n")]));
    stage.world.write_settings(&format!(
        "[models.agent]\nurl = '{}'\nmodel = 'slow'\n",
        server.url()
    ));
    let before = files(&stage.world.root());
    let mut task = stage.task();
    let mut told = String::new();
    while !told.contains("second = 2\n") {
        let event = task.next().expect("what is written is told");
        if event["kind"] == "writing" {
            assert_eq!(
                (&event["call"], &event["path"]),
                (&json!("c00000001"), &json!("new.py"))
            );
            told.push_str(event["text"].as_str().unwrap());
        }
    }
    assert_eq!(told, "first = 1\nsecond = 2\n", "only whole lines");
    let id = task.task();
    task.kill();
    let all = recorded(&stage, &id);
    for kind in ["diff", "tool_call", "tool_result"] {
        assert!(of_kind(&all, kind).is_empty(), "{all:#?}");
    }
    assert_eq!(files(&stage.world.root()), before);
    stage.stop();
    runtime.block_on(server.stop());
}
