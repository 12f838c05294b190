//! Keys: sent where they belong, and nowhere else.

use model_server::{Answer, Seen};
use pairwright::model::{
    Endpoint, Failure, KeySource, Message, Secret, TurnApi, TurnEndpoint, TurnEvent, TurnRequest,
    TurnStream,
};
use serde_json::json;

use super::{Wire, request, serve, text};

const KEY: &str = "sk-live-51f0c0ffee7d1ce";

fn printing(key: &str) -> Option<KeySource> {
    Some(KeySource::Command(vec![
        "printf".to_owned(),
        "%s".to_owned(),
        key.to_owned(),
    ]))
}

fn bearer(seen: &Seen) -> String {
    seen.header("authorization").unwrap_or("none").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_command_is_sent_and_its_extra_headers() {
    for wire in [Wire::Http1, Wire::Http2Tls] {
        let (server, endpoint, network) = serve(wire, |_| Answer::text("x")).await;
        let headers = [("x-team".to_owned(), Secret::new("editors"))].into();
        let model = network
            .model(Endpoint {
                key: printing(KEY),
                headers,
                ..endpoint
            })
            .unwrap();
        text(&model, "1").await.unwrap();
        let seen = server.log().requests[0].clone();
        assert_eq!(bearer(&seen), format!("Bearer {KEY}"));
        assert_eq!(seen.header("x-team"), Some("editors"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_the_users_own_takes_the_place_of_the_key() {
    let (server, endpoint, network) = serve(Wire::Http1, |_| Answer::text("x")).await;
    let headers = [("Authorization".to_owned(), Secret::new("Token own"))].into();
    let model = network
        .model(Endpoint {
            key: printing(KEY),
            headers,
            ..endpoint
        })
        .unwrap();
    text(&model, "1").await.unwrap();
    assert_eq!(bearer(&server.log().requests[0]), "Token own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_shown_even_when_the_server_repeats_it() {
    let echo = |seen: &Seen| {
        let said = format!(
            "invalid key {} (header x-team: {})",
            bearer(seen),
            seen.header("x-team").unwrap_or_default()
        );
        Answer::error(401, &said)
    };
    let (_server, endpoint, network) = serve(Wire::Http1, echo).await;
    let headers = [("x-team".to_owned(), Secret::new("secret-team"))].into();
    let model = network
        .model(Endpoint {
            key: printing(KEY),
            headers,
            ..endpoint
        })
        .unwrap();
    let error = text(&model, "1").await.unwrap_err();
    assert!(matches!(
        error.failure,
        Failure::Unauthorized { status: 401, .. }
    ));
    let health = format!("{:?}", *model.health().borrow());
    let shown = format!(
        "{error} {error:?} {} {:?} {health} {:?}",
        error.user_error(),
        model.endpoint(),
        model.preview(&request("1"))
    );
    assert!(shown.contains("[redacted]"), "{shown}");
    for part in [KEY, &KEY[..10], &KEY[KEY.len() - 10..], "secret-team"] {
        let keyless = shown.replace(&format!("{:?}", model.endpoint().key), "");
        assert!(!keyless.contains(part), "{part}: {keyless}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_shown_when_an_answer_that_began_well_repeats_it() {
    let echo = |seen: &Seen| {
        let said = format!("bad {} of {:?}", bearer(seen), seen.header("x-team"));
        let event = json!({ "error": { "message": said } });
        Answer::bytes("text/event-stream", [format!("data: {event}\n\n")])
    };
    let (server, endpoint, network) = serve(Wire::Http1, echo).await;
    let headers = [("x-team".to_owned(), Secret::new("secret-team"))].into();
    let model = network
        .model(Endpoint {
            key: printing(KEY),
            headers,
            ..endpoint
        })
        .unwrap();
    let of_completion = text(&model, "1").await.unwrap_err();
    let of_completion = format!("{of_completion} {of_completion:?}");
    let endpoint = TurnEndpoint {
        key: printing(KEY),
        headers: model.endpoint().headers.clone(),
        ..TurnEndpoint::new(TurnApi::OpenAi, server.url(), "m")
    };
    let turn = network.turn_model(endpoint).unwrap().turn(TurnRequest {
        system: String::new(),
        messages: vec![Message::User { text: "?".into() }],
        tools: Vec::new(),
        max_tokens: 10,
        temperature: None,
    });
    let of_turn = first_error(turn).await;
    for shown in [of_completion, of_turn] {
        assert!(shown.contains("bad Bearer [redacted]"), "{shown}");
        assert!(
            !shown.contains(&KEY[..10]) && !shown.contains("secret-team"),
            "{shown}"
        );
    }
}

/// The first failure of a turn, also one after which it is asked again.
async fn first_error(mut turn: TurnStream) -> String {
    loop {
        match turn.next().await.expect("an error") {
            Ok(TurnEvent::Retry { why, .. }) => return why,
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_of_a_command_is_read_anew_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "old-key").unwrap();
    let accept = |seen: &Seen| match bearer(seen).as_str() {
        "Bearer new-key" => Answer::text("x"),
        _ => Answer::error(401, "expired"),
    };
    let (server, endpoint, network) = serve(Wire::H2c, accept).await;
    let key = Some(KeySource::Command(vec![
        "cat".to_owned(),
        file.display().to_string(),
    ]));
    let model = network.model(Endpoint { key, ..endpoint }).unwrap();
    assert!(text(&model, "1").await.is_err());
    // The same key was read again: it is not sent again.
    assert_eq!(server.log().requests.len(), 1);

    let model = network.model(model.endpoint().clone()).unwrap();
    let first = super::whole(&model, request("2")).await;
    assert!(first.is_err());
    std::fs::write(&file, "new-key").unwrap();
    let model = network.model(model.endpoint().clone()).unwrap();
    assert_eq!(text(&model, "3").await.as_deref(), Ok("x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_every_key_is_asked_twice() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let fresh = format!(
        "echo run >> '{0}'; echo key-$(wc -l < '{0}')",
        runs.display()
    );
    let (server, endpoint, network) = serve(Wire::H2c, |_| Answer::error(401, "no")).await;
    let key = Some(KeySource::Command(
        ["sh", "-c", &fresh].map(str::to_owned).to_vec(),
    ));
    let model = network.model(Endpoint { key, ..endpoint }).unwrap();
    let error = text(&model, "1").await.unwrap_err();
    assert!(
        matches!(error.failure, Failure::Unauthorized { status: 401, .. }),
        "{error:?}"
    );
    let shown: Vec<String> = server.log().requests.iter().map(bearer).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_ne!(shown[0], shown[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_an_endpoint_is_not_asked() {
    let (server, endpoint, network) = serve(Wire::Http1, |_| Answer::text("x")).await;
    let key = Some(KeySource::Env("PAIRWRIGHT_TEST_UNSET_KEY".to_owned()));
    let model = network.model(Endpoint { key, ..endpoint }).unwrap();
    let error = text(&model, "1").await.unwrap_err();
    assert_eq!(
        error.user_error().message,
        format!(
            "Could not get the key for the model at {}: the environment variable PAIRWRIGHT_TEST_UNSET_KEY is not set.",
            server.url()
        )
    );
    assert_eq!(server.log().requests.len(), 0);
}
