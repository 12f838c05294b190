//! Everything a server can do wrong: each is told apart, explained, and over with.

use std::time::Duration;

use model_server::{Answer, Ending, ModelServer};
use pairwright::error::Kind;
use pairwright::model::{
    Endpoint, Failure, FimRequest, Health, Model, ModelError, Network, NetworkSettings, Timeouts,
};
use tokio::time::Instant;

use super::{Wire, model, request, serve, text, whole};

/// A model that is given up on after a moment.
async fn hasty(
    wire: Wire,
    script: impl Fn(&model_server::Seen) -> Answer + Send + Sync + 'static,
) -> (ModelServer, Model) {
    let (server, endpoint, network) = serve(wire, script).await;
    let short = Duration::from_millis(200);
    let timeouts = Timeouts {
        first_byte: short,
        idle: short,
        total: short * 20,
    };
    let model = network
        .model(Endpoint {
            timeouts,
            ..endpoint
        })
        .unwrap();
    (server, model)
}

/// Checks that a failure reads well: names the endpoint, has no prompt in it, and a next step
/// where there is one.
fn assert_explained(error: &ModelError, hinted: bool) {
    let shown = error.user_error();
    assert!(shown.message.contains("127.0.0.1:"), "{shown}");
    assert!(!shown.to_string().contains("fn secret_plan"), "{shown}");
    assert_eq!(shown.hint.is_some(), hinted, "{shown}");
    assert!(
        shown.message.len() < 400 && !shown.message.contains('\n'),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_is_told_apart() {
    let said = |failure: &Failure| match failure {
        Failure::Unauthorized { status, said }
        | Failure::Rejected { status, said }
        | Failure::Faulted { status, said } => format!("{status} {said}"),
        Failure::NotFound { said } => format!("404 {said}"),
        Failure::RateLimited { retry_after, said } => format!("429 {said} {retry_after:?}"),
        Failure::NotAStream { content_type } => content_type.clone(),
        other => panic!("{other:?}"),
    };
    let cases = [
        (401, "401 because", true),
        (403, "403 because", true),
        (404, "404 because", true),
        (400, "400 because", true),
        (422, "422 because", true),
        (429, "429 because Some(7s)", true),
        (500, "500 because", false),
        (503, "503 because", false),
        (302, "status 302", true),
    ];
    for wire in [Wire::Http1, Wire::H2c] {
        for (status, expected, hinted) in cases {
            let (_server, endpoint, network) = serve(wire, move |_| {
                Answer::error(status, "because").with_header("retry-after", "7")
            })
            .await;
            let model = network.model(endpoint).unwrap();
            let error = text(&model, "fn secret_plan() {").await.unwrap_err();
            assert_eq!(said(&error.failure), expected);
            assert_explained(&error, hinted);
            assert_eq!(model.stats().failed, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_answers_are_told_apart() {
    let page = || Answer::bytes("text/html; charset=utf-8", ["<html>please log in</html>"]);
    let garbage = || Answer::bytes("text/event-stream", ["data: {\"choices\":\n\n"]);
    let other = || Answer::bytes("text/event-stream", ["data: {\"weather\": \"fine\"}\n\n"]);
    let number = || Answer::bytes("text/event-stream", ["data: 7\n\n"]);
    let empty = || Answer::bytes("text/event-stream", [": nothing\n\n"]);
    let inside = || {
        Answer::bytes(
            "text/event-stream",
            ["data: {\"error\": {\"message\": \"out of memory\", \"code\": 500}}\n\n"],
        )
    };
    let field = || {
        Answer::bytes(
            "text/event-stream",
            ["error: {\"message\": \"out of memory\", \"code\": 500}\n\n"],
        )
    };
    type Case<'a> = (&'a dyn Fn() -> Answer, fn(&Failure) -> bool);
    let cases: [Case<'_>; 7] = [
        (
            &page,
            |failure| matches!(failure, Failure::NotAStream { content_type } if content_type == "text/html"),
        ),
        (&garbage, |failure| matches!(failure, Failure::Garbage(_))),
        (&other, |failure| matches!(failure, Failure::Garbage(_))),
        (&number, |failure| matches!(failure, Failure::Garbage(_))),
        (&empty, |failure| matches!(failure, Failure::Garbage(_))),
        (
            &inside,
            |failure| matches!(failure, Failure::Faulted { status: 500, said } if said == "out of memory"),
        ),
        (
            &field,
            |failure| matches!(failure, Failure::Faulted { said, .. } if said == "out of memory"),
        ),
    ];
    for (answer, fits) in cases {
        let answer = answer();
        let (_server, model) = model(move |_| answer.clone()).await;
        let error = text(&model, "fn secret_plan() {").await.unwrap_err();
        assert!(fits(&error.failure), "{error:?}");
        assert_explained(&error, !matches!(error.failure, Failure::Faulted { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_in_the_middle_keeps_the_text_that_came() {
    for wire in [Wire::Http1, Wire::H2c, Wire::Http1Tls, Wire::Http2Tls] {
        let (server, endpoint, network) = serve(wire, |seen| match seen.nth {
            0 => Answer::pieces(["let x", " = "]).ending(Ending::Cut),
            _ => Answer::text("whole"),
        })
        .await;
        let model = network.model(endpoint).unwrap();
        let mut stream = model.complete(request("1"));
        let mut came = String::new();
        let error = loop {
            match stream.next().await {
                Ok(Some(piece)) => came.push_str(&piece),
                Ok(None) => panic!("{wire:?}: a cut is no end"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.failure, Failure::Cut, "{wire:?}");
        assert_eq!(
            (came.as_str(), stream.so_far().as_str()),
            ("let x = ", "let x = "),
            "{wire:?}"
        );
        assert_eq!(text(&model, "2").await.as_deref(), Ok("whole"), "{wire:?}");
        // A request that was answered in part is not sent twice.
        assert_eq!(server.log().requests.len(), 2, "{wire:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_or_stops_answering_is_given_up_on() {
    for wire in [Wire::Http1, Wire::H2c] {
        let (server, model) = hasty(wire, |seen| match seen.nth {
            0 => Answer::never(),
            1 => Answer::text("a").ending(Ending::Hang),
            _ => Answer::text("fine"),
        })
        .await;
        let error = text(&model, "1").await.unwrap_err();
        assert!(matches!(error.failure, Failure::Silent(_)), "{error:?}");
        assert_explained(&error, true);
        let error = text(&model, "2").await.unwrap_err();
        assert!(matches!(error.failure, Failure::Stalled(_)), "{error:?}");
        server
            .wait("both are cancelled", |log| {
                log.requests[1].ended.and(log.requests[0].ended)
            })
            .await;
        assert_eq!(text(&model, "3").await.as_deref(), Ok("fine"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_end_is_cut_off_by_text_by_bytes_and_by_time() {
    let few = FimRequest {
        max_tokens: 4,
        ..request("1")
    };
    for wire in [Wire::Http1, Wire::H2c] {
        let (server, model) = hasty(wire, |_| {
            Answer::text("again and again ").ending(Ending::Endless)
        })
        .await;
        let error = whole(&model, few.clone()).await.unwrap_err();
        assert_eq!(error.failure, Failure::Endless, "{wire:?}");
        server.wait("the cancel", |log| log.requests[0].ended).await;

        let (server, model) = hasty(wire, |_| Answer::text("").ending(Ending::Endless)).await;
        let error = whole(&model, few.clone()).await.unwrap_err();
        assert_eq!(error.failure, Failure::Endless, "{wire:?}");
        server.wait("the cancel", |log| log.requests[0].ended).await;

        let slow = |_: &model_server::Seen| {
            Answer::text("")
                .with_gap(Duration::from_millis(20))
                .ending(Ending::Proper)
                .after(Duration::from_millis(1))
        };
        let (_server, model) = hasty(wire, slow).await;
        assert_eq!(
            whole(&model, few.clone())
                .await
                .map(|completion| completion.text),
            Ok(String::new())
        );
    }
    let comment = bytes::Bytes::from_static(b": still thinking\n");
    let (_server, model) =
        model(move |_| Answer::bytes("text/event-stream", vec![comment.clone(); 300_000])).await;
    let error = whole(&model, few).await.unwrap_err();
    assert_eq!(error.failure, Failure::Endless);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_end_is_cut_off() {
    let block = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let (_server, model) =
        model(move |_| Answer::bytes("text/event-stream", vec![block.clone(); 40])).await;
    assert_eq!(
        text(&model, "1").await.unwrap_err().failure,
        Failure::Endless
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_wait_and_cancels_the_request() {
    let (server, model) = model(|_| Answer::text("a").ending(Ending::Hang)).await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let mut stream = model.complete(FimRequest {
        deadline: Some(deadline),
        ..request("1")
    });
    assert_eq!(stream.next().await, Ok(Some("a".to_owned())));
    let error = stream.next().await.unwrap_err();
    assert_eq!(
        (error.failure.clone(), error.user_error().kind),
        (Failure::Late, Kind::Limit)
    );
    let end = server.wait("the reset", |log| log.requests[0].end()).await;
    assert_eq!(end, model_server::End::Reset(8));
    assert_eq!((model.stats().cancelled, model.stats().failed), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_left_alone_until_it_is() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let network = Network::new(&NetworkSettings::default()).unwrap();
    let endpoint = Endpoint::new(
        pairwright::model::Api::LlamaCpp,
        format!("http://{address}"),
        "",
    );
    let model = network.model(endpoint).unwrap();
    let mut health = model.health();
    assert_eq!(*health.borrow_and_update(), Health::Unknown);
    for nth in 0..3 {
        let error = text(&model, &format!("{nth}")).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused);
        assert_explained(&error, true);
    }
    let error = text(&model, "paused").await.unwrap_err();
    assert!(matches!(error.failure, Failure::Paused { .. }), "{error:?}");
    assert!(
        error.to_string().contains("refused the connection"),
        "{error}"
    );
    let Health::Paused { until, why } = health.borrow_and_update().clone() else {
        panic!("not paused")
    };
    assert_eq!(
        why.message,
        format!("The model endpoint http://{address} refused the connection.")
    );
    assert_eq!(model.stats().paused, 1);

    let listen = model_server::Listen {
        address: Some(address),
        ..Wire::Http1.listen()
    };
    let server = ModelServer::listen(listen, |_| Answer::text("back"))
        .await
        .unwrap();
    tokio::time::sleep_until(until).await;
    assert_eq!(text(&model, "again").await.as_deref(), Ok("back"));
    assert_eq!(*health.borrow_and_update(), Health::Ready);
    assert_eq!(server.log().requests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_respected_without_asking() {
    let (server, model) =
        model(|_| Answer::error(429, "slow down").with_header("retry-after", "60")).await;
    text(&model, "1").await.unwrap_err();
    for nth in 0..20 {
        let error = text(&model, &format!("again {nth}")).await.unwrap_err();
        assert!(matches!(error.failure, Failure::Paused { .. }));
    }
    assert_eq!(server.log().requests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_exist_is_explained() {
    let network = Network::new(&NetworkSettings {
        proxy: pairwright::model::Proxy::None,
        ..NetworkSettings::default()
    })
    .unwrap();
    let endpoint = Endpoint::new(
        pairwright::model::Api::LlamaCpp,
        "http://no-such-host.invalid:8012",
        "",
    );
    let error = text(&network.model(endpoint).unwrap(), "1")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.failure,
            Failure::Unresolved | Failure::ConnectTimeout(_)
        ),
        "{error:?}"
    );
}
