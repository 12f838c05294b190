//! Turns of a conversation against a scripted server, over real sockets and in every dialect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model_server::{Answer, Call, End, Ending, ModelServer, Seen, Turn, broken_prefix};
use pairwright::model::{
    Failure, Message, Network, NetworkSettings, Prices, Proxy, Reply, ToolSpec, TurnApi, TurnEnd,
    TurnEndpoint, TurnEvent, TurnModel, TurnRequest, TurnStream, TurnUsage,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Wire, trusting};

const DIALECTS: [TurnApi; 3] = [TurnApi::OpenAi, TurnApi::Anthropic, TurnApi::Ollama];

async fn model_on(
    wire: Wire,
    api: TurnApi,
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (ModelServer, TurnModel) {
    let server = ModelServer::listen(wire.listen(), script).await.unwrap();
    let mut endpoint = TurnEndpoint::new(api, server.url(), "some-model");
    endpoint.http = wire.version();
    endpoint.prices = Some(Prices {
        input: 1.0,
        output: 10.0,
        cached: Some(0.0),
    });
    let model = trusting(&server).turn_model(endpoint).unwrap();
    (server, model)
}

fn ask(messages: Vec<Message>) -> TurnRequest {
    TurnRequest {
        system: "You help.".to_owned(),
        messages,
        tools: vec![ToolSpec {
            name: "list".to_owned(),
            description: "Lists files.".to_owned(),
            schema: json!({ "type": "object", "properties": { "path": { "type": "string" } } }),
        }],
        max_tokens: 256,
        temperature: None,
    }
}

fn question(text: &str) -> Message {
    Message::User {
        text: text.to_owned(),
    }
}

/// Reads to the end; the error is what the stream ended with.
async fn whole(mut stream: TurnStream) -> (Reply, Option<Failure>, usize) {
    let reading = async {
        let (mut reply, mut failure, mut n_retries) = (Reply::default(), None, 0);
        while let Some(next) = stream.next().await {
            match next {
                Ok(event) => {
                    n_retries += usize::from(matches!(event, TurnEvent::Retry { .. }));
                    reply.take(&event);
                }
                Err(error) => failure = Some(error.failure),
            }
        }
        (reply, failure, n_retries)
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("an end within 20 seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_tools_only_grows_and_every_call_has_its_result() {
    for wire in [Wire::Http1, Wire::H2c, Wire::Http2Tls] {
        for api in DIALECTS {
            let (server, model) = model_on(wire, api, |seen| {
                let body = seen.json();
                let n_messages = body["messages"].as_array().unwrap().len();
                Answer::turn(if n_messages <= 2 {
                    let calls = [
                        Call::new("c1", "list", &json!({ "path": "." })),
                        Call::new("c2", "list", &json!({ "path": "src" })),
                    ];
                    Turn::calls("Looking.", calls).with_thinking(&["Let me", " look."])
                } else {
                    Turn::pieces(["All ", "there."]).with_usage(100, 90)
                })
            })
            .await;
            let mut messages = vec![question("What is here?")];
            let (first, failure, _) = whole(model.turn(ask(messages.clone()))).await;
            assert_eq!(failure, None, "{api:?} on {wire:?}");
            assert_eq!(first.end, Some(TurnEnd::ToolCalls));
            assert_eq!(
                (first.text.as_str(), first.thinking[0].text.as_str()),
                ("Looking.", "Let me look.")
            );
            let arguments: Vec<&str> = first.calls.iter().map(|c| c.arguments.as_str()).collect();
            assert_eq!(arguments, [r#"{"path":"."}"#, r#"{"path":"src"}"#]);
            messages.push(first.message());
            messages.extend(first.calls.iter().map(|call| Message::ToolResult {
                call: call.id.clone(),
                text: "a.rs".to_owned(),
                failed: false,
            }));
            let (second, failure, _) = whole(model.turn(ask(messages.clone()))).await;
            assert_eq!(failure, None, "{api:?} on {wire:?}");
            assert_eq!(second.text, "All there.");
            let cached = if api == TurnApi::Ollama { 0 } else { 90 };
            let cost = ((100 - cached) as f64 + 20.0) / 1e6;
            let expected = TurnUsage {
                input: 100,
                output: 2,
                cached,
                written: 0,
                cost: Some(cost),
            };
            assert_eq!(second.usage, Some(expected), "{api:?}");
            messages.push(second.message());
            messages.push(question("Thanks. And now?"));
            let (third, failure, _) = whole(model.turn(ask(messages))).await;
            assert_eq!((failure, third.end), (None, Some(TurnEnd::Stop)), "{api:?}");
            assert_eq!(broken_prefix(&server.log()), None);
            assert_eq!(server.log().requests.len(), 3, "nothing was asked twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_a_call_without_a_result() {
    let (_server, model) = model_on(Wire::H2c, TurnApi::OpenAi, |_| {
        Answer::turn(Turn::calls("", [Call::new("c1", "list", &"{}")]))
    })
    .await;
    let (reply, ..) = whole(model.turn(ask(vec![question("?")]))).await;
    let broken = vec![question("?"), reply.message(), question("and?")];
    let (_, failure, _) = whole(model.turn(ask(broken))).await;
    assert!(
        matches!(&failure, Some(Failure::Rejected { said, .. }) if said.contains("no result")),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_turn_resets_it_at_the_server_and_keeps_the_connection() {
    for api in DIALECTS {
        let (server, model) = model_on(Wire::H2c, api, |seen| {
            let turn = Turn::pieces(["a", "b"]);
            Answer::turn(if seen.nth == 0 {
                turn.ending(Ending::Hang)
            } else {
                turn
            })
        })
        .await;
        let mut stream = model.turn(ask(vec![question("?")]));
        while !matches!(stream.next().await, Some(Ok(TurnEvent::Text(_)))) {}
        drop(stream);
        let reset = |log: &model_server::Log| log.requests[0].end();
        assert_eq!(
            server.wait("a reset", reset).await,
            End::Reset(8),
            "{api:?}"
        );
        let (again, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!((failure, again.text.as_str()), (None, "ab"));
        assert_eq!(server.log().connections.len(), 1);
        assert_eq!(model.stats().cancelled, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_server_is_asked_again_after_the_time_it_gave_and_only_then() {
    for status in [429, 529, 500] {
        let n_asked = AtomicUsize::new(0);
        let (server, model) = model_on(Wire::H2c, TurnApi::Anthropic, move |_| {
            match n_asked.fetch_add(1, Ordering::Relaxed) {
                0 => Answer::error(status, "busy").with_header("retry-after", "1"),
                _ => Answer::turn(Turn::text("Now.")),
            }
        })
        .await;
        let (reply, failure, n_retries) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!(
            (failure, reply.text.as_str(), n_retries),
            (None, "Now.", 1),
            "{status}"
        );
        let log = server.log();
        assert_eq!(log.requests.len(), 2);
        let pause = log.requests[1].arrived - log.requests[0].arrived;
        assert!(pause >= Duration::from_secs(1), "{pause:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_is_reported_as_cut_and_never_asked_again() {
    for api in DIALECTS {
        let (server, model) = model_on(Wire::H2c, api, |_| {
            let calls = [Call::new("c1", "list", &json!({ "path": "." }))];
            Answer::turn(Turn::calls("Half", calls).ending(Ending::Cut))
        })
        .await;
        let (reply, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!(failure, Some(Failure::Cut), "{api:?}");
        assert_eq!((reply.text.as_str(), reply.end), ("Half", None));
        // Ollama's calls are whole when they come; the others' may lack their second half.
        assert_eq!(
            reply.calls.len(),
            usize::from(api == TurnApi::Ollama),
            "{api:?}"
        );
        assert_eq!(server.log().requests.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_finds_out_after_a_pause_keeps_no_other_waiting_for_its_end() {
    let (server, model) = model_on(Wire::H2c, TurnApi::OpenAi, |seen| match seen.nth {
        0 => Answer::error(429, "busy").with_header("retry-after", "1"),
        1 => Answer::turn(Turn::text("one ").ending(Ending::Hang)),
        _ => Answer::turn(Turn::text("Now.")),
    })
    .await;
    let mut trial = model.turn(ask(vec![question("?")]));
    loop {
        match trial.next().await.expect("a turn that goes on") {
            Ok(TurnEvent::Text(_)) => break,
            event => drop(event.unwrap()),
        }
    }
    let (reply, failure, _) = whole(model.turn(ask(vec![question("And?")]))).await;
    assert_eq!((failure, reply.text.as_str()), (None, "Now."));
    assert_eq!(server.log().requests[1].end(), None, "still being answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_be_left_alone_for_ever_is_a_limit_as_any_other() {
    let (server, model) = model_on(Wire::H2c, TurnApi::OpenAi, |_| {
        Answer::error(429, "busy").with_header("retry-after", "1.8e19")
    })
    .await;
    let (_, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
    assert!(
        matches!(failure, Some(Failure::RateLimited { .. })),
        "{failure:?}"
    );
    assert_eq!(server.log().requests.len(), 1);
}

/// Answers a request with these events, and breaks the connection where more was promised.
async fn breaking_after(events: String) -> TurnModel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let events = events.clone();
            tokio::spawn(async move {
                // The head and the beginning of the body, which is small.
                let mut asked = [0; 16 << 10];
                if client.read(&mut asked).await? == 0 {
                    return Ok(());
                }
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
                client.write_all(head.as_bytes()).await?;
                client.write_all(events.as_bytes()).await?;
                client.shutdown().await?;
                // What is left unread would reset it before the answer is read.
                while client.read(&mut asked).await? > 0 {}
                std::io::Result::Ok(())
            });
        }
    });
    let endpoint = TurnEndpoint::new(TurnApi::OpenAi, url, "some-model");
    let settings = NetworkSettings {
        proxy: Proxy::None,
        ..NetworkSettings::default()
    };
    Network::new(&settings)
        .unwrap()
        .turn_model(endpoint)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_the_reason_of_the_end_takes_nothing_away() {
    let call = json!({ "choices": [{ "delta": { "tool_calls": [{
        "index": 0, "id": "c1", "function": { "name": "list", "arguments": "{\"path\":\".\"}" },
    }] } }] });
    let end = json!({ "choices": [{ "delta": {}, "finish_reason": "tool_calls" }] });
    for (events, is_whole) in [
        (format!("data: {call}\n\ndata: {end}\n\n"), true),
        (format!("data: {call}\n\n"), false),
    ] {
        let model = breaking_after(events).await;
        let (reply, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!(failure, (!is_whole).then_some(Failure::Cut));
        assert_eq!(reply.calls.len(), usize::from(is_whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_explained_and_not_repeated() {
    let cases = [
        (401, "no", "models.chat.apiKeyEnv"),
        (404, "no", "models.chat.model"),
        (
            400,
            "prompt is too long: 210000 tokens > 200000 maximum",
            "models.chat.contextTokens",
        ),
    ];
    for (status, said, hint) in cases {
        let (server, model) = model_on(Wire::Http1, TurnApi::OpenAi, move |_| {
            Answer::error(status, said)
        })
        .await;
        let mut stream = model.turn(ask(vec![question("?")]));
        let error = stream.next().await.unwrap().unwrap_err().user_error();
        assert!(
            error.hint.as_ref().is_some_and(|h| h.contains(hint)),
            "{error:?}"
        );
        assert!(stream.next().await.is_none());
        assert_eq!(server.log().requests.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_stops_is_stopped() {
    let (server, model) = model_on(Wire::H2c, TurnApi::OpenAi, |_| {
        Answer::turn(Turn::text("again and again ").ending(Ending::Endless))
    })
    .await;
    let (reply, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
    assert_eq!(failure, Some(Failure::Endless));
    assert!(reply.text.len() < 64 << 10, "{}", reply.text.len());
    assert_eq!(
        server.wait("a reset", |log| log.requests[0].end()).await,
        End::Reset(8)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_know_is_left_out_once_and_for_all() {
    let (server, model) = model_on(Wire::H2c, TurnApi::OpenAi, |seen| {
        let body = seen.json();
        if body.get("max_tokens").is_some() {
            return Answer::error(
                400,
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            );
        }
        if body.get("stream_options").is_some() {
            return Answer::error(422, "stream_options: extra fields not permitted");
        }
        Answer::turn(Turn::text("Fine."))
    })
    .await;
    for n_requests in [3, 4] {
        let (reply, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!((failure, reply.text.as_str()), (None, "Fine."));
        assert_eq!(server.log().requests.len(), n_requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_shown_as_each_dialect_wants_them() {
    for (api, header, value) in [
        (TurnApi::OpenAi, "authorization", "Bearer hunter2"),
        (TurnApi::Anthropic, "x-api-key", "hunter2"),
    ] {
        let server = ModelServer::start(|_| Answer::turn(Turn::text("x"))).await;
        let key = pairwright::model::KeySource::Command(vec!["echo".into(), "hunter2".into()]);
        let endpoint = TurnEndpoint {
            key: Some(key),
            ..TurnEndpoint::new(api, server.url(), "m")
        };
        let model = trusting(&server).turn_model(endpoint).unwrap();
        let (_, failure, _) = whole(model.turn(ask(vec![question("?")]))).await;
        assert_eq!(failure, None);
        let log = server.log();
        assert_eq!(log.requests[0].header(header), Some(value));
        let version = log.requests[0].header("anthropic-version");
        assert_eq!(version.is_some(), api == TurnApi::Anthropic);
    }
}
