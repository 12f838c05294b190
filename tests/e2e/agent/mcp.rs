//! Tools of MCP servers in tasks: over standard streams and HTTP.

mod ends;
mod hostile;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::run::{Script, Stage};
use crate::world::World;

const SECRET: &str = "hush-hush-hush";
const YES: &str = "{ decision = 'yes' }";
const FOR_THE_TASK: &str = "{ decision = 'yes', scope = 'task' }";

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/mcp_server.py")
}

/// A task whose model makes these calls, one a turn, and then finishes. A call is the name of a
/// tool and its arguments, if it takes some.
fn stage(calls: &[&str], answers: &[&str]) -> Stage {
    let answers = answers.join(", ");
    let mut script = format!("never_sent = ['{SECRET}']\nanswers = [{answers}]\n");
    for call in calls {
        let (tool, arguments) = call.split_at(call.find(" {").unwrap_or(call.len()));
        let arguments = match arguments {
            "" => "{}",
            given => given,
        };
        script.push_str("[[turn]]\n[[turn.call]]\n");
        script.push_str(&format!("name = '{tool}'\nraw = '{arguments}'\n"));
    }
    script
        .push_str("[[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n");
    let script: Script = toml::from_str(&script).unwrap();
    let world = World::new(&[("a.txt", "one\n")])
        .with_variable("OPENAI_API_KEY", "sk-of-the-model-0a1b2c")
        .with_variable("TOKEN", SECRET);
    Stage::with(script, world)
}

/// Such a task, with the server `notes` over standard streams.
fn with_program(calls: &[&str], answers: &[&str]) -> Stage {
    let stage = stage(calls, answers);
    over_streams(&stage);
    stage
}

/// Runs the task, which succeeds. Returns its events.
fn finished(stage: &Stage) -> Vec<Value> {
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    events
}

fn log(stage: &Stage) -> PathBuf {
    stage.world.home().join("mcp.log")
}

pub(super) fn over_streams(stage: &Stage) {
    let (program, log) = (program(), log(stage));
    stage.add_settings(&format!(
        "[mcp.servers.notes]\ncommand = 'python3'\nargs = ['{}']\npassEnv = ['TOKEN']\n[mcp.servers.notes.env]\nLOG = '{}'\nLISTING = '{}'\n",
        program.display(),
        log.display(),
        listing(stage).display(),
    ));
}

/// What the server lists instead of its own tools; nothing unless it is written.
pub(super) fn listing(stage: &Stage) -> PathBuf {
    stage.world.home().join("listing.json")
}

/// Rules of the user.
fn write_rules(stage: &Stage, rules: &str) {
    let file = stage.world.home().join(".config/pairwright/policy.toml");
    fs::write(file, rules).unwrap();
}

/// The server over HTTP, which ends with this.
struct OverHttp(Child);

impl OverHttp {
    fn start(stage: &Stage) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a server of the test, which it waits for"
        )]
        let mut child = Command::new("python3")
            .arg(program())
            .arg("--http")
            .env("LOG", log(stage))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut address).unwrap();
        stage.add_settings(&format!(
            "[mcp.servers.notes]\nurl = '{}'\napiKeyEnv = 'TOKEN'\nheaders = {{ X-Team = 'team-{SECRET}' }}\n",
            address.trim()
        ));
        Self(child)
    }
}

impl Drop for OverHttp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the server was asked, as method and tool.
fn heard(stage: &Stage) -> Vec<String> {
    let text = fs::read_to_string(log(stage)).unwrap_or_default();
    let line = |line: &str| {
        let message: Value = serde_json::from_str(line).unwrap();
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        format!("{} {tool}", message["method"].as_str().unwrap())
            .trim_end()
            .to_owned()
    };
    text.lines().map(line).collect()
}

pub(super) fn calls(stage: &Stage) -> Vec<String> {
    let mut heard = heard(stage);
    heard.retain(|line| line.starts_with("tools/call"));
    heard
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|e| e["kind"] == kind).collect()
}

fn notices(events: &[Value]) -> Vec<&str> {
    let notices = of(events, "notice").into_iter();
    notices.map(|e| e["text"].as_str().unwrap()).collect()
}

/// Outcomes and texts of the results of the server's tools.
fn results(events: &[Value]) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    of(events, "tool_result")
        .into_iter()
        .filter(|e| e["tool"] != "finish")
        .map(|e| (text(e, "outcome"), text(e, "text")))
        .collect()
}

#[test]
fn a_tool_of_a_program_is_asked_for_and_its_answer_is_data_without_secrets() {
    let calls_made = [
        r#"mcp__notes__add {"a":1,"b":2}"#,
        r#"mcp__notes__add {"a":3,"b":2}"#,
        "mcp__notes__whisper",
        "mcp__notes__around",
        "mcp__notes__whisper",
    ];
    let no = "{ decision = 'no', text = 'not that' }";
    let stage = with_program(&calls_made, &[FOR_THE_TASK, YES, YES, no]);
    let events = finished(&stage);

    let asked = of(&events, "approval");
    let subjects: Vec<&Value> = asked.iter().map(|e| &e["subject"]["tool"]).collect();
    assert_eq!(
        subjects,
        [
            "mcp__notes__add",
            "mcp__notes__whisper",
            "mcp__notes__around",
            "mcp__notes__whisper"
        ],
        "add was allowed for the task once"
    );
    assert_eq!(asked[0]["subject"]["arguments"], r#"{"a":1,"b":2}"#);
    assert_eq!(asked[0]["risk"], "high");

    let results = results(&events);
    let outcomes: Vec<&str> = results
        .iter()
        .map(|(outcome, _)| outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["done", "done", "done", "done", "denied"]);
    let mark = results[0].1.lines().next().unwrap();
    assert!(mark.starts_with("<data-"), "{mark}");
    assert_eq!(
        results[0].1,
        format!("{mark}\n3\n{}", mark.replace('<', "</"))
    );
    assert!(results[1].1.contains("\n5\n"));
    assert!(
        results[2].1.contains("token [redacted]"),
        "{}",
        results[2].1
    );
    let around: Value = serde_json::from_str(results[3].1.lines().nth(1).unwrap()).unwrap();
    let home = stage.world.home().canonicalize().unwrap();
    assert_eq!(
        around["folder"],
        home.to_str().unwrap(),
        "not in the workspace"
    );
    let variables = around["variables"].as_array().unwrap();
    assert!(variables.contains(&json!("TOKEN")) && !variables.contains(&json!("OPENAI_API_KEY")));
    assert!(results[4].1.contains("the user says: not that"));
    assert_eq!(calls(&stage).len(), 4, "what was denied was never asked");

    let request = stage.server.log().completions()[0].json();
    let told = request["tools"].as_array().unwrap();
    let told = told
        .iter()
        .find(|t| t["function"]["name"] == "mcp__notes__add")
        .unwrap();
    let about = told["function"]["description"].as_str().unwrap();
    assert!(about.contains("MCP server `notes`") && about.ends_with("Adds two numbers."));
    assert_eq!(
        told["function"]["parameters"]["required"],
        json!(["a", "b"])
    );
    stage.stop();
}

#[test]
fn a_tool_at_an_address_is_called_the_same_way_and_shown_its_key_alone() {
    let calls_made = [
        r#"mcp__notes__add {"a":20,"b":22}"#,
        "mcp__notes__whisper",
        "mcp__notes__fail",
    ];
    let stage = stage(&calls_made, &[YES; 3]);
    let server = OverHttp::start(&stage);
    let events = finished(&stage);
    let results = results(&events);
    assert!(results[0].1.contains("\n42\n"), "{results:?}");
    assert!(
        results[1].1.contains("'x-team': '[redacted]'"),
        "{}",
        results[1].1
    );
    assert!(
        results[1]
            .1
            .contains("'authorization': 'Bearer [redacted]'"),
        "{}",
        results[1].1
    );
    assert_eq!(results[2].0, "failed");
    assert!(results[2].1.contains("there is no such page"));
    assert_eq!(calls(&stage).len(), 3);
    assert_eq!(
        heard(&stage).last().unwrap(),
        "DELETE",
        "the session was left open"
    );
    drop(server);
    stage.stop();
}

#[test]
fn rules_decide_by_name_and_those_of_a_repository_only_tighten() {
    let calls_made = [
        r#"mcp__notes__add {"a":1,"b":1}"#,
        "mcp__notes__whisper",
        "mcp__notes__long",
    ];
    let stage = with_program(&calls_made, &["{ decision = 'no' }"]);
    let allow =
        "[[tool]]\nname = 'mcp__notes__add'\ndecision = 'allow'\nmatches = ['mcp__notes__add']\n";
    let deny = "[[tool]]\nname = 'mcp__notes__w*'\ndecision = 'deny'\nwhy = 'it tells'\n";
    write_rules(&stage, &format!("{allow}{deny}"));
    let all = "[[tool]]\nname = 'mcp__*'\ndecision = 'allow'\n";
    stage.world.write(".pairwright/policy.toml", all);
    let (events, _) = stage.task().until_it_ends();
    let asked = of(&events, "approval");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["subject"]["tool"], "mcp__notes__long");
    let denied: Vec<&Value> = of(&events, "denied").iter().map(|e| &e["why"]).collect();
    assert_eq!(denied, ["it tells", "user said no"]);
    assert_eq!(calls(&stage), ["tools/call add"]);
    stage.stop();
}

#[test]
fn nothing_is_started_for_a_workspace_that_names_servers_or_a_task_that_only_reads() {
    let stage = stage(&[r#"mcp__notes__add {"a":1,"b":1}"#], &[YES]);
    stage.world.write(
        ".pairwright.toml",
        &format!(
            "[mcp.servers.notes]\ncommand = 'touch'\nargs = ['{}']\n",
            log(&stage).display()
        ),
    );
    let (events, _) = stage.task().until_it_ends();
    assert!(results(&events)[0].1.contains("there is no tool"));
    assert!(!log(&stage).exists());
    over_streams(&stage);
    let (events, _) = stage
        .start(&["--mode", "read-only", "Look."])
        .until_it_ends();
    assert!(results(&events)[0].1.contains("there is no tool"));
    assert!(!log(&stage).exists());
    stage.stop();
}

#[test]
fn the_doctor_names_the_tools_and_what_is_wrong_with_servers() {
    let stage = with_program(&[], &[]);
    stage.add_settings("[mcp.servers.missing]\ncommand = 'no-such-program'\n");
    let output = stage.command(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["mcp"][0]["name"], "notes");
    assert_eq!(report["mcp"][0]["tools"].as_array().unwrap().len(), 9);
    let problems = report["problems"].to_string();
    assert!(
        problems.contains("The MCP server `missing` cannot be used"),
        "{problems}"
    );
    assert!(!report.to_string().contains(SECRET));
    let settings = report["settings"].to_string();
    assert!(
        settings.contains("mcp.servers.notes.env.LOG") && !settings.contains("mcp.log"),
        "{settings}"
    );
    stage.stop();
}
