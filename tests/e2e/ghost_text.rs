//! Ghost text as an editor experiences it: superseding, typing along, cancelling, never stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model_server::{Answer, End, Ending, Hole, Listen, ModelServer, Seen};
use pairwright::driver::Client;
use serde_json::{Value, json};

use crate::world::{END, Edits, TYPED, WHOLE, World, inline_params, suggested};

/// A server whose model is `script`, over h2c, and the world to start it in.
async fn with_model(
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (ModelServer, World) {
    let model = ModelServer::listen(Listen::default(), script)
        .await
        .unwrap();
    let world = World::new(&[]);
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         [local]\nenabled = false\n[complete]\ndeadlineMs = 5000\n",
        model.url()
    ));
    (model, world)
}

/// Completion requests that were not the probe's own.
fn asked(model: &ModelServer) -> usize {
    model
        .log()
        .completions()
        .into_iter()
        .filter(|seen| !is_probe(seen))
        .count()
}

fn is_probe(seen: &Seen) -> bool {
    Hole::of(seen).prefix.ends_with("a = [1, 2, ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_text_is_shown_and_kept_while_it_is_typed() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "compute(first, second)")).await;
    let mut client = world.session();
    let uri = world.uri("sum.py");
    client.open(&uri, "python", "total = \n");
    let answer = client.inline(&uri, (0, 8));
    assert_eq!(suggested(&answer), Some("total = compute(first, second)"));
    let before = asked(&model);

    let mut line = "total = ".to_owned();
    for (n, typed) in ["c", "o", "mpu", "te("].into_iter().enumerate() {
        let at = (0, line.len() as u32);
        client.type_at(&uri, n as i32 + 2, at, typed);
        line.push_str(typed);
        let answer = client.inline(&uri, (0, line.len() as u32));
        assert_eq!(
            suggested(&answer),
            Some("total = compute(first, second)"),
            "after {typed:?}"
        );
    }
    assert_eq!(asked(&model), before, "typing along asks nobody");

    client.type_at(&uri, 6, (0, line.len() as u32), "x");
    let answer = client.inline(&uri, (0, line.len() as u32 + 1));
    assert_eq!(
        suggested(&answer),
        Some("total = compute(xcompute(first, second)")
    );
    assert_eq!(asked(&model), before + 1, "another letter asks anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_file_with_other_line_ends_a_suggestion_has_those_and_is_typed_along() {
    let (model, world) = with_model(|seen| {
        let said = match Hole::of(seen).prefix.ends_with("def total():") {
            true => "\r\n    first()\r\n    return second()\r\n\r\n\r\nx",
            false => "compute()\r\nx",
        };
        Answer::honest(seen, said)
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("sum.py");
    client.open(&uri, "python", "total = \r\nother = 1\r\ndef total():\r\n");
    let answer = client.inline(&uri, (0, 8));
    assert_eq!(suggested(&answer), Some("total = compute()"));
    let answer = client.inline(&uri, (2, 12));
    let whole = "def total():\r\n    first()\r\n    return second()";
    assert_eq!(suggested(&answer), Some(whole));
    let before = asked(&model);
    client.type_at(&uri, 2, (2, 12), "\r\n    ");
    let answer = client.inline(&uri, (3, 4));
    assert_eq!(
        suggested(&answer),
        Some("    first()\r\n    return second()")
    );
    assert_eq!(asked(&model), before, "typing along asks nobody");
    for seen in model.log().completions() {
        let Hole { prefix, suffix } = Hole::of(seen);
        assert!(!prefix.contains('\r') && !suffix.unwrap_or_default().contains('\r'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_request_answers_the_older_with_nothing_and_resets_its_stream() {
    let (model, world) = with_model(|seen| {
        if is_probe(seen) {
            return Answer::honest(seen, "");
        }
        if Hole::of(seen).prefix.ends_with("second = ") {
            Answer::text("compute(2)")
        } else {
            Answer::never()
        }
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("numbers.py");
    client.open(&uri, "python", "first = \nsecond = \n");
    let first = client.ask_inline(&uri, (0, 8));
    let hanging = |log: &model_server::Log| {
        log.requests
            .iter()
            .find(|seen| Hole::of(seen).prefix.ends_with("first = "))
            .map(|seen| seen.nth)
    };
    let nth = model.wait("the first request", hanging).await;
    let second = client.inline(&uri, (1, 9));
    assert_eq!(suggested(&second), Some("second = compute(2)"));
    let first = client.answer(first).unwrap();
    assert_eq!(first.result.unwrap(), Value::Null);
    let end = model
        .wait("the end of the first", |log| log.requests[nth].end())
        .await;
    assert_eq!(end, End::Reset(8));
}

/// Neovim 0.7 sends such a change when a request comes right after an edit.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_nothing_does_not_take_the_answer_away() {
    let (model, world) = with_model(|seen| {
        Answer::honest(seen, "compute(first, second)").after(Duration::from_millis(300))
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("sum.py");
    client.open(&uri, "python", "total = \n");
    client.replace(&uri, 2, "total = \n");
    let id = client.ask_inline(&uri, (0, 8));
    model
        .wait("the request", |log| {
            let asked = |seen: &&Seen| Hole::of(seen).prefix.ends_with("total = ");
            log.requests.iter().find(asked).map(|seen| seen.nth)
        })
        .await;
    let document = json!({ "uri": uri, "version": 2 });
    let nothing = json!({ "textDocument": document, "contentChanges": [] });
    client.notify("textDocument/didChange", &nothing).unwrap();
    let answer = client.answer(id).unwrap();
    assert_eq!(suggested(&answer), Some("total = compute(first, second)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_is_answered_once_and_its_stream_reset() {
    let (model, world) = with_model(|seen| {
        if is_probe(seen) {
            Answer::honest(seen, "")
        } else {
            Answer::never()
        }
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("wait.py");
    client.open(&uri, "python", "value = \n");
    let id = client.ask_inline(&uri, (0, 8));
    let nth = model
        .wait("the request", |log| {
            log.requests
                .iter()
                .find(|seen| Hole::of(seen).prefix.ends_with("value = "))
                .map(|seen| seen.nth)
        })
        .await;
    client
        .notify("$/cancelRequest", &json!({ "id": id }))
        .unwrap();
    let answer = client.answer(id).unwrap();
    assert_eq!(
        i64::from(answer.result.unwrap_err().code),
        -32800,
        "RequestCancelled"
    );
    let end = model.wait("its end", |log| log.requests[nth].end()).await;
    assert_eq!(end, End::Reset(8));
    // A cancel of what is answered already changes nothing.
    client
        .notify("$/cancelRequest", &json!({ "id": id }))
        .unwrap();
    client
        .request("pairwright/status/get", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(client.unclaimed(id), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_within_the_debounce_cost_one_model_request() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "compute(1, 2)")).await;
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         [local]\nenabled = false\n[complete]\ndeadlineMs = 5000\ndebounceMs = 1000\n",
        model.url()
    ));
    let mut client = world.session();
    let uri = world.uri("quick.py");
    client.open(&uri, "python", "\n");
    let mut ids = Vec::new();
    for (n, key) in "whole_sum=".chars().enumerate() {
        client.type_at(&uri, n as i32 + 2, (0, n as u32), &key.to_string());
        ids.push(client.ask_inline(&uri, (0, n as u32 + 1)));
    }
    let last = ids.pop().unwrap();
    let answer = client.answer(last).unwrap();
    assert_eq!(suggested(&answer), Some("whole_sum=compute(1, 2)"));
    for id in ids {
        assert_eq!(client.answer(id).unwrap().result.unwrap(), Value::Null);
    }
    assert_eq!(asked(&model), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_model_that_is_late_only_whole_lines_are_shown_when_they_are_asked_for() {
    let (_model, world) = with_model(|seen| {
        if is_probe(seen) {
            return Answer::honest(seen, "");
        }
        Answer::text("one();\n    tw").ending(Ending::Hang)
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("two.js");
    client.open(&uri, "javascript", "if (x) {\n    \n}\n");
    let mut params = inline_params(&uri, (1, 4));
    params["context"]["triggerKind"] = 1.into();
    let answer = client
        .request("textDocument/inlineCompletion", &params)
        .unwrap();
    let items = answer.result.unwrap()["items"].clone();
    let texts = items.as_array().unwrap().iter();
    let texts: Vec<_> = texts.map(|item| &item["insertText"]).collect();
    assert_eq!(texts, ["    one();"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_about_a_text_is_not_shown_in_the_one_that_is_opened_in_its_place() {
    let (model, world) = with_model(|seen| match Hole::of(seen).prefix.ends_with("other = ") {
        true => Answer::honest(seen, "second()"),
        false => Answer::honest(seen, "first()"),
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("sum.py");
    client.open(&uri, "python", "total = \n");
    let answer = client.inline(&uri, (0, 8));
    assert_eq!(suggested(&answer), Some("total = first()"));
    client.open(&uri, "python", "other = \n");
    let answer = client.inline(&uri, (0, 8));
    assert_eq!(suggested(&answer), Some("other = second()"));
    assert_eq!(asked(&model), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_model_leaks_is_kept_out_by_the_settings() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "total[PAD]total")).await;
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         stop = ['[PAD]']\nlogitBias = {{ '7' = -100 }}\n\
         [local]\nenabled = false\n[complete]\ndeadlineMs = 5000\n",
        model.url()
    ));
    let mut client = world.session();
    let uri = world.uri("sum.py");
    client.open(&uri, "python", "x = \n");
    let answer = client.inline(&uri, (0, 4));
    assert_eq!(suggested(&answer), Some("x = total"));
    let log = model.log();
    let body = log.completions().last().unwrap().json();
    let stops = body["stop"].as_array().unwrap();
    assert!(stops.contains(&json!("[PAD]")), "{body}");
    assert_eq!(body["logit_bias"], json!({ "7": -100.0 }));
}

/// Edits, requests and cancels in any order: whatever is answered was computed from the version
/// that was asked on. The model's answer and the line both carry the number of the version.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_interleaved_edits_and_requests_give_no_stale_answer() {
    const ROUNDS: i32 = 10_000;
    let delays = Arc::new(AtomicUsize::new(0));
    let (_model, world) = with_model(move |seen| {
        let hole = Hole::of(seen);
        let line = hole.prefix.lines().last().unwrap_or_default().to_owned();
        let number: String = line.chars().filter(char::is_ascii_digit).collect();
        let delay = delays.fetch_add(1, Ordering::Relaxed) % 4;
        Answer::honest(seen, &format!("answer_{number}")).after(Duration::from_millis(delay as u64))
    })
    .await;
    let mut client = world.session();
    let uri = world.uri("stale.py");
    let line = |n: i32| format!("version_{n} = ");
    client.open(&uri, "python", &line(1));
    let mut random = fastrand::Rng::with_seed(20);
    let mut open: Vec<(i64, i32)> = Vec::new();
    let mut n_answered = 0;
    let mut version = 1;
    for round in 0..ROUNDS {
        if random.u32(..3) > 0 {
            version += 1;
            client.replace(&uri, version, &line(version));
        }
        let id = client.ask_inline(&uri, (0, line(version).len() as u32));
        open.push((id, version));
        if random.u32(..10) == 0 {
            let (id, _) = open[random.usize(..open.len())];
            client
                .notify("$/cancelRequest", &json!({ "id": id }))
                .unwrap();
        }
        // Now and then the answer comes before the next key, as it does when the user looks.
        let looks = random.u32(..20) == 0;
        if looks || open.len() > 200 || round == ROUNDS - 1 {
            for (id, version) in open.drain(..) {
                n_answered += usize::from(checked(&mut client, id, version));
            }
        }
    }
    assert!(
        n_answered > 200,
        "only {n_answered} requests were answered with text"
    );
}

/// Whether a request was answered with text; that text must be of the version it was asked on.
fn checked(client: &mut Client, id: i64, version: i32) -> bool {
    let answer = client.answer(id).unwrap();
    assert_eq!(client.unclaimed(id), 0, "one answer for each request");
    let Ok(result) = &answer.result else {
        return false;
    };
    let Some(text) = result["items"][0]["insertText"].as_str() else {
        return false;
    };
    assert_eq!(text, format!("version_{version} = answer_{version}"));
    true
}

#[test]
fn a_request_for_a_version_that_is_gone_is_answered_with_nothing() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    client.replace(&uri, 2, "    result = multiply(P");
    let mut params = inline_params(&uri, END);
    params["textDocument"]["version"] = 1.into();
    let answer = client
        .request("textDocument/inlineCompletion", &params)
        .unwrap();
    assert_eq!(answer.result.unwrap(), Value::Null);
}

#[test]
fn what_is_shown_and_accepted_is_counted() {
    let world = World::knowing();
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    let mut params = inline_params(&uri, END);
    params["context"]["triggerKind"] = 1.into();
    let answer = client
        .request("textDocument/inlineCompletion", &params)
        .unwrap();
    let items = answer.result.unwrap()["items"].clone();
    let first = &items[0];
    assert_eq!(first["insertText"], WHOLE);

    let item =
        json!({ "item": { "command": first["command"], "insertText": first["insertText"] } });
    client
        .notify("textDocument/didShowCompletion", &item)
        .unwrap();
    let accept = json!({
        "command": first["command"]["command"],
        "arguments": first["command"]["arguments"],
    });
    client
        .request("workspace/executeCommand", &accept)
        .unwrap()
        .result
        .unwrap();
    let metrics = client
        .request("pairwright/metrics/get", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(metrics["shown"], 1, "{metrics}");
    assert_eq!(metrics["accepted"], 1, "{metrics}");
}

/// Editors put in the whole item in the place of its whole range, from the start of the line.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_put_in_from_the_start_of_its_line_is_accepted_and_a_block_may_follow() {
    for (text, column, whole) in [
        ("total = \n", 8, "total = compute(x)"),
        ("total = ()\n", 9, "total = (compute(x))"),
    ] {
        let (model, world) = with_model(move |seen| {
            let said = match Hole::of(seen).prefix.ends_with('(') {
                true => "compute(x))",
                false => "compute(x)",
            };
            Answer::honest(seen, said)
        })
        .await;
        let mut client = world.session();
        let uri = world.uri("sum.py");
        client.open(&uri, "python", text);
        let answer = client.inline(&uri, (0, column));
        let item = answer.result.unwrap()["items"][0].clone();
        assert_eq!(item["insertText"], whole);
        client
            .notify("textDocument/didShowCompletion", &json!({ "item": item }))
            .unwrap();
        let change = json!({ "range": item["range"], "text": item["insertText"] });
        let document = json!({ "uri": uri, "version": 2 });
        let params = json!({ "textDocument": document, "contentChanges": [change] });
        client.notify("textDocument/didChange", &params).unwrap();
        client
            .request("workspace/executeCommand", &item["command"])
            .unwrap()
            .result
            .unwrap();
        let counts = client
            .request("pairwright/metrics/get", &Value::Null)
            .unwrap()
            .result
            .unwrap();
        let became = ["shown", "accepted", "rejected"].map(|name| counts[name].as_u64());
        assert_eq!(became, [Some(1), Some(1), Some(0)], "{counts}");
        client.inline(&uri, (0, whole.len() as u32));
        let asked = |seen: &&Seen| Hole::of(seen).prefix.ends_with(whole);
        let log = model.log();
        let seen = log.requests.iter().find(asked).unwrap();
        let most = seen.json()["max_tokens"].as_u64().unwrap();
        assert!(most > 48, "a line, not a block: {most}");
    }
}

#[test]
fn snoozing_and_switching_a_language_off_are_silent_and_say_so() {
    let world = World::knowing();
    world.write_settings("[complete.languages]\nmarkdown = false\n");
    let mut client = world.session();
    client.learnt();
    let uri = world.uri("b.py");
    client.open(&uri, "python", TYPED);
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));
    let snooze = json!({ "command": "pairwright.snooze", "arguments": [5] });
    client
        .request("workspace/executeCommand", &snooze)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(suggested(&client.inline(&uri, END)), None);
    let status = client
        .request("pairwright/status/get", &Value::Null)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(status["kind"], "Inactive");
    let resume = json!({ "command": "pairwright.resume" });
    client
        .request("workspace/executeCommand", &resume)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(suggested(&client.inline(&uri, END)), Some(WHOLE));

    let notes = world.uri("notes.md");
    client.open(&notes, "markdown", TYPED);
    assert_eq!(suggested(&client.inline(&notes, END)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_open_files_stay_there_and_what_stands_for_them_is_not_suggested() {
    const KEY: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let (model, world) = with_model(|seen| match Hole::of(seen).prefix.ends_with("token = ") {
        true => Answer::honest(seen, "open_at(\"[redacted key]\")"),
        false => Answer::honest(seen, "compute()"),
    })
    .await;
    let mut client = world.session();
    let lines = |end: &str| {
        let open = format!("def open_shop(street, number):\n    sign_in(\"{KEY}\")\n");
        format!("{open}    return street, number\n{end}")
    };
    client.open(&world.uri("other.py"), "python", &lines(""));
    let uri = world.uri("shop.py");
    let text = lines(&format!("price = \ntoken = \nlast = \"{KEY}\"\n"));
    client.open(&uri, "python", &text);
    let place = json!({ "line": 3, "character": 8 });
    let params = json!({ "textDocument": { "uri": uri }, "position": place });
    let shown = client
        .request("pairwright/context/explain", &params)
        .unwrap()
        .result
        .unwrap();
    assert_eq!(
        suggested(&client.inline(&uri, (3, 8))),
        Some("price = compute()")
    );
    assert_eq!(suggested(&client.inline(&uri, (4, 8))), None);
    let log = model.log();
    let asked = log.completions().into_iter().filter(|seen| !is_probe(seen));
    let sent: Vec<String> = asked.map(|seen| seen.json().to_string()).collect();
    assert_eq!(sent.len(), 2);
    for text in sent.iter().chain([&shown.to_string()]) {
        assert!(!text.contains(&KEY[..12]), "{text}");
        // Above the cursor, below it, and in the other file.
        assert!(text.matches("[redacted key]").count() >= 3, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_can_be_seen_and_holds_no_secret() {
    let (model, world) = with_model(|seen| Answer::honest(seen, "x")).await;
    let world = world.with_variable("SHOP_KEY", "sk-very-secret-0123456789");
    world.write_settings(&format!(
        "[models.complete]\napi = 'fim'\nurl = '{}'\nmodel = 'qwen2.5-coder'\nhttp = 'h2c'\n\
         apiKeyEnv = 'SHOP_KEY'\n",
        model.url()
    ));
    let mut client = world.session();
    let uri = world.uri("shop.py");
    client.open(&uri, "python", "price = \n");
    let params =
        json!({ "textDocument": { "uri": uri }, "position": { "line": 0, "character": 8 } });
    let shown = client
        .request("pairwright/context/explain", &params)
        .unwrap()
        .result
        .unwrap();
    let text = shown.to_string();
    assert!(text.contains("price = "), "{text}");
    assert!(!text.contains("sk-very-secret"), "{text}");
    client.inline(&uri, (0, 8));
    let seen = model
        .wait("a request", |log| {
            log.completions().first().map(|seen| (*seen).clone())
        })
        .await;
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer sk-very-secret-0123456789")
    );
    client.leave().unwrap();
    let log = std::fs::read_to_string(world.log_file()).unwrap();
    assert!(!log.contains("sk-very-secret"), "{log}");
}
