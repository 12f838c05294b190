//! A task whose model is out goes on with the next one the settings name, and says so.

use model_server::{Answer, ModelServer, Turn};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::run::{Script, Stage};
use crate::world::World;

const SCRIPT: &str = "[[turn]]\n[[turn.call]]\nname = 'list'\n\
    [[turn]]\n[[turn.call]]\nname = 'finish'\narguments = { summary = 'Done.' }\n";

/// A task whose first model is at `first`, with the scripted one behind `between`.
fn stage(first: &str, between: &str) -> Stage {
    let script: Script = toml::from_str(SCRIPT).unwrap();
    let stage = Stage::with(script, World::new(&[("a.txt", "one\n")]));
    stage.world.write_settings(&format!(
        "[models.agent]\nurl = '{first}'\nmodel = 'first'\n{between}\
         [[models.agentFallbacks]]\nurl = '{}'\nmodel = 'second'\nprices = {{ input = 1000000.0, output = 0.0 }}\n",
        stage.server.url()
    ));
    stage
}

fn notices(events: &[Value]) -> Vec<&str> {
    let of = events.iter().filter(|e| e["kind"] == "notice");
    of.map(|e| e["text"].as_str().unwrap()).collect()
}

fn answered(events: &[Value]) -> Vec<&str> {
    let of = events.iter().filter(|e| e["kind"] == "usage");
    of.map(|e| e["model"].as_str().unwrap()).collect()
}

#[test]
fn a_task_whose_model_cannot_be_reached_goes_on_with_the_next_and_names_it() {
    let nowhere = "[[models.agentFallbacks]]\nurl = 'http://127.0.0.1:2'\nmodel = 'nowhere'\n";
    let stage = stage("http://127.0.0.1:1", nowhere);
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    stage.check_requests();
    let told = notices(&events);
    assert_eq!(
        told.len(),
        2,
        "each is told once, not with every turn: {told:?}"
    );
    assert!(
        told[0].contains("127.0.0.1:1")
            && told[0].contains("nowhere at http://127.0.0.1:2 answers instead")
    );
    assert!(told[1].contains("second at "), "{told:?}");
    assert_eq!(answered(&events), ["second", "second"]);

    let audit = stage.command(&["audit", "show", events[0]["session"].as_str().unwrap()]);
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("answers instead"), "{audit}");
    let metrics = stage.command(&["metrics", "--json"]);
    let metrics: Value = serde_json::from_slice(&metrics.stdout).unwrap();
    let models = metrics["models"].as_object().unwrap();
    assert_eq!(models.keys().collect::<Vec<_>>(), ["second"]);
    assert_eq!(models["second"]["cost"], metrics["modes"]["review"]["cost"]);
    assert!(models["second"]["cost"].as_f64().unwrap() > 0.0);

    let doctor = stage.command(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let models: Vec<&Value> = doctor["fallbacks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["model"])
        .collect();
    assert_eq!(models, ["nowhere", "second"]);
    stage.stop();
}

#[test]
fn a_limit_that_is_longer_than_is_waited_is_an_outage_and_a_refusal_is_not() {
    let runtime = Runtime::new().unwrap();
    for (status, falls_back) in [(429, true), (400, false), (401, false)] {
        let refuse = move |_: &model_server::Seen| {
            Answer::error(status, "no").with_header("retry-after", "600")
        };
        let first = runtime.block_on(ModelServer::start(refuse));
        let stage = stage(&first.url(), "");
        let (events, code) = stage.task().until_it_ends();
        let expected: &[&str] = if falls_back {
            &["second", "second"]
        } else {
            &["first"]
        };
        assert_eq!(answered(&events), expected, "{status}: {events:#?}");
        assert_eq!(code == 0, falls_back, "{status}");
        assert_eq!(notices(&events).len(), usize::from(falls_back), "{status}");
        stage.stop();
        runtime.block_on(first.stop());
    }
}

#[test]
fn a_model_that_has_begun_to_answer_is_not_replaced() {
    let runtime = Runtime::new().unwrap();
    let cut = |_: &model_server::Seen| {
        Answer::turn(Turn::pieces(["Half of ", "an answer"]).ending(model_server::Ending::Cut))
    };
    let first = runtime.block_on(ModelServer::start(cut));
    let stage = stage(&first.url(), "");
    let (events, _) = stage.task().until_it_ends();
    assert_eq!(answered(&events), ["first"]);
    assert_eq!(stage.server.log().completions().len(), 0);
    assert_eq!(events.last().unwrap()["state"], "paused", "{events:#?}");
    stage.stop();
    runtime.block_on(first.stop());
}
