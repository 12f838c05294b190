//! Connections: kept, cancelled on, warmed, and found dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model_server::{Answer, End, Ending, Listen, ModelServer, Protocol as Spoken, Speak};
use pairwright::model::{
    Api, Endpoint, Failure, FimRequest, Network, NetworkSettings, Protocol, Proxy, TurnApi,
    TurnEndpoint,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{WIRES, Wire, model, request, serve, text, whole};

/// RST_STREAM code of a request nobody wants any more.
const CANCEL: End = End::Reset(8);

#[tokio::test(flavor = "multi_thread")]
async fn every_wire_carries_a_completion_in_the_protocol_it_negotiates() {
    for wire in WIRES {
        let (server, endpoint, network) =
            serve(wire, |_| Answer::pieces(["let ", "x = ", "1;"])).await;
        let model = network.model(endpoint).unwrap();
        let completion = whole(&model, request("fn f() {")).await.unwrap();
        assert_eq!(completion.text, "let x = 1;", "{wire:?}");
        let (ours, theirs) = if wire.is_http2() {
            (Protocol::Http2, Spoken::Http2)
        } else {
            (Protocol::Http1, Spoken::Http1)
        };
        assert_eq!(
            (completion.finish.protocol, model.protocol()),
            (ours, Some(ours))
        );
        assert_eq!(server.log().requests[0].protocol, theirs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_cancels_reset_five_hundred_streams_on_one_connection() {
    for wire in [Wire::H2c, Wire::Http2Tls] {
        // Half are dropped before the head of the answer, half in the middle of the text.
        let script = |seen: &model_server::Seen| match seen.nth % 2 {
            0 => Answer::never(),
            _ => Answer::text("a").ending(Ending::Hang),
        };
        let (server, endpoint, network) = serve(wire, script).await;
        let model = network.model(endpoint).unwrap();
        for nth in 0..500 {
            let mut stream = model.complete(request(&format!("fn f{nth}() {{")));
            server
                .wait("the request", |log| log.requests.get(nth).map(|_| ()))
                .await;
            if nth % 2 == 1 {
                assert_eq!(stream.next().await, Ok(Some("a".to_owned())));
            }
            drop(stream);
            server
                .wait("the reset", |log| log.requests[nth].ended)
                .await;
        }
        let log = server.log();
        assert_eq!(
            (log.requests.len(), log.ended(CANCEL)),
            (500, 500),
            "{wire:?}"
        );
        assert_eq!((log.connections.len(), log.open()), (1, 1), "{wire:?}");
        let stats = model.stats();
        assert_eq!(
            (
                stats.requests,
                stats.cancelled,
                stats.failed,
                stats.connections
            ),
            (500, 500, 0, 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_of_a_server_that_keeps_sending_do_not_wear_the_connection_out() {
    const CANCELS: usize = 300;
    let (server, model) = model(|_| Answer::text("tok ").ending(Ending::Endless)).await;
    let mut cancelling = tokio::task::JoinSet::new();
    for nth in 0..CANCELS {
        if cancelling.len() == 8 {
            cancelling.join_next().await;
        }
        let mut stream = model.complete(FimRequest {
            max_tokens: 100_000,
            ..request(&format!("{nth}"))
        });
        cancelling.spawn(async move { stream.next().await });
    }
    while cancelling.join_next().await.is_some() {}
    server
        .wait("all resets", |log| {
            (log.ended(CANCEL) == CANCELS).then_some(())
        })
        .await;
    assert_eq!(
        (server.log().connections.len(), model.stats().failed),
        (1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_one_of_many_leaves_the_others_alone() {
    let (server, model) = model(|seen| {
        let pieces: Vec<String> = (0..20).map(|n| format!("{}:{n} ", seen.nth)).collect();
        Answer::pieces(pieces).with_gap(Duration::from_millis(30))
    })
    .await;
    let mut streams: Vec<_> = (0..64)
        .map(|nth| Some(model.complete(request(&format!("{nth}")))))
        .collect();
    server
        .wait("all requests", |log| {
            (log.requests.len() == 64).then_some(())
        })
        .await;
    for stream in streams.iter_mut().step_by(2) {
        *stream = None;
    }
    for stream in streams.into_iter().flatten() {
        let completion = stream.whole().await.unwrap();
        assert_eq!(completion.text.split_whitespace().count(), 20);
    }
    server
        .wait("all ends", |log| {
            log.requests
                .iter()
                .all(|seen| seen.ended.is_some())
                .then_some(())
        })
        .await;
    let log = server.log();
    assert_eq!(
        (
            log.ended(CANCEL),
            log.ended(End::Answered),
            log.connections.len()
        ),
        (32, 32, 1),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http1_a_cancel_closes_its_connection_and_a_spare_takes_the_next_request() {
    for wire in [Wire::Http1, Wire::Http1Tls] {
        let (server, endpoint, network) = serve(wire, |_| Answer::never()).await;
        let model = network.model(endpoint).unwrap();
        for nth in 0..20 {
            let stream = model.complete(request(&format!("{nth}")));
            // The spare is open before it is needed.
            let seen = server
                .wait("the request and an unused connection", |log| {
                    let spare = log
                        .connections
                        .iter()
                        .any(|open| open.closed.is_none() && open.requests == 0);
                    log.requests.get(nth).filter(|_| spare).cloned()
                })
                .await;
            let opened = server.log().connections[seen.connection].opened;
            if nth > 0 {
                let before = server.log().requests[nth - 1].arrived;
                assert!(opened <= seen.arrived && opened >= before - Duration::from_secs(5));
            }
            drop(stream);
            server
                .wait("the close", |log| log.connections[seen.connection].closed)
                .await;
        }
        let log = server.log();
        assert_eq!(
            (log.requests.len(), log.ended(End::Closed)),
            (20, 20),
            "{wire:?}"
        );
        assert!(
            log.open() <= 2,
            "{wire:?}: {} connections are open",
            log.open()
        );
        assert!(
            log.connections
                .iter()
                .all(|connection| connection.requests <= 1)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_after_a_cancel_over_http1_pays_no_handshake() {
    let handshake = Duration::from_millis(300);
    let listen = Listen {
        handshake_delay: handshake,
        ..Wire::Http1Tls.listen()
    };
    let server = ModelServer::listen(listen, |seen| {
        if seen.nth == 0 {
            Answer::never()
        } else {
            Answer::text("x")
        }
    })
    .await
    .unwrap();
    let network = super::trusting(&server);
    let model = network
        .model(Endpoint::new(Api::Fim, server.url(), "starcoder2"))
        .unwrap();
    let first = model.complete(request("1"));
    server
        .wait("the request and a spare", |log| {
            let ready = log.connections.iter();
            let ready = ready.filter(|one| one.is_ready && one.closed.is_none());
            (log.requests.len() == 1 && ready.count() >= 2).then_some(())
        })
        .await;
    drop(first);
    let asked = Instant::now();
    assert_eq!(text(&model, "2").await.as_deref(), Ok("x"));
    assert!(asked.elapsed() < handshake, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_requests_over_http1_use_the_same_connection() {
    let (server, endpoint, network) = serve(Wire::Http1, |_| Answer::text("x")).await;
    let model = network.model(endpoint).unwrap();
    for nth in 0..50 {
        assert_eq!(text(&model, &format!("{nth}")).await.as_deref(), Ok("x"));
        server.wait("the end", |log| log.requests[nth].ended).await;
    }
    let log = server.log();
    assert!(
        log.connections.len() <= 4,
        "{} connections for 50 requests",
        log.connections.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn warming_opens_one_connection_and_sends_nothing() {
    for wire in WIRES {
        let (server, endpoint, network) = serve(wire, |_| Answer::text("x")).await;
        let model = network.model(endpoint).unwrap();
        for _ in 0..100 {
            model.warm();
        }
        server
            .wait("a connection", |log| log.connections.first().map(|_| ()))
            .await;
        assert_eq!(text(&model, "p").await.as_deref(), Ok("x"));
        let log = server.log();
        assert_eq!(
            (log.requests.len(), log.requests[0].connection),
            (1, 0),
            "{wire:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_the_server_closed_while_it_was_unused_is_replaced_unseen() {
    // One that is closed sooner was hardly accepted, which is a failure of its own.
    let listen = Listen {
        close_idle: Some(Duration::from_millis(150)),
        ..Wire::Http1.listen()
    };
    let server = ModelServer::listen(listen, |_| Answer::text("x"))
        .await
        .unwrap();
    let network = super::trusting(&server);
    let model = network
        .model(Endpoint::new(Api::Fim, server.url(), "starcoder2"))
        .unwrap();
    for nth in 0..10 {
        assert_eq!(text(&model, &format!("{nth}")).await.as_deref(), Ok("x"));
        server
            .wait("the close", |log| (log.open() == 0).then_some(()))
            .await;
    }
    assert_eq!(model.stats().failed, 0);
}

/// Time in which a request that was given up would be asked again.
const GIVEN_UP: Duration = Duration::from_millis(500);

/// Answers each request with its prompt, except the first: that is held while the server says that
/// its connection takes no more requests. Tells when the client knows that, and of each request its
/// connection and body.
async fn winding_up(
    wound_up: oneshot::Sender<()>,
    seen: mpsc::UnboundedSender<(usize, String)>,
    release: Arc<Notify>,
) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut wound_up = Some(wound_up);
        for connection in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            let mut accepted = h2::server::handshake(socket).await.unwrap();
            let (seen, release) = (seen.clone(), Arc::clone(&release));
            let mut wound_up = wound_up.take();
            tokio::spawn(async move {
                let mut pings = accepted.ping_pong().unwrap();
                while let Some(Ok((request, respond))) = accepted.accept().await {
                    let held = wound_up.is_some().then(|| Arc::clone(&release));
                    tokio::spawn(answer_h2(request, respond, connection, seen.clone(), held));
                    if let Some(wound_up) = wound_up.take() {
                        accepted.graceful_shutdown();
                        // The answer to a ping comes after what was said before it was read.
                        let told = tokio::select! {
                            biased;
                            _ = accepted.accept() => panic!("no other request is sent"),
                            told = pings.ping(h2::Ping::opaque()) => told,
                        };
                        told.unwrap();
                        wound_up.send(()).unwrap();
                    }
                }
            });
        }
    });
    url
}

async fn answer_h2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    connection: usize,
    seen: mpsc::UnboundedSender<(usize, String)>,
    held: Option<Arc<Notify>>,
) {
    let mut stream = request.into_body();
    let mut body = Vec::new();
    while let Some(Ok(data)) = stream.data().await {
        body.extend_from_slice(&data);
    }
    seen.send((connection, String::from_utf8(body).unwrap()))
        .unwrap();
    if let Some(release) = held {
        release.notified().await;
    }
    let head = http::Response::builder().header("content-type", "text/event-stream");
    let event =
        json!({ "choices": [{ "text": format!("from {connection}"), "finish_reason": "stop" }] });
    let mut sending = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    let text = format!("data: {event}\n\ndata: [DONE]\n\n");
    sending.send_data(text.into(), true).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_takes_no_more_requests_still_brings_the_answer_under_way() {
    let (wound_up, is_wound_up) = oneshot::channel();
    let (tell, mut seen) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let url = winding_up(wound_up, tell, Arc::clone(&release)).await;
    let settings = NetworkSettings {
        proxy: Proxy::None,
        ..NetworkSettings::default()
    };
    let endpoint = Endpoint::new(Api::Fim, url, "qwen2.5-coder");
    let model = Network::new(&settings).unwrap().model(endpoint).unwrap();

    let asked = model.clone();
    let held = tokio::spawn(async move { text(&asked, "held").await });
    let first = seen.recv().await.unwrap();
    assert!(first.0 == 0 && first.1.contains("held"), "{first:?}");
    is_wound_up.await.unwrap();
    assert_eq!(text(&model, "other").await.as_deref(), Ok("from 1"));
    let second = seen.recv().await.unwrap();
    assert!(second.0 == 1 && second.1.contains("other"), "{second:?}");
    let again = tokio::time::timeout(GIVEN_UP, seen.recv()).await;
    assert!(again.is_err(), "asked again: {again:?}");
    release.notify_one();
    assert_eq!(held.await.unwrap().as_deref(), Ok("from 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_found_again() {
    let (server, endpoint, network) = serve(Wire::H2c, |_| Answer::text("old")).await;
    let address = server.address();
    let model = network.model(endpoint).unwrap();
    assert_eq!(text(&model, "1").await.as_deref(), Ok("old"));
    server.stop().await;
    let listen = Listen {
        address: Some(address),
        ..Wire::H2c.listen()
    };
    let server = ModelServer::listen(listen, |_| Answer::text("new"))
        .await
        .unwrap();
    assert_eq!(text(&model, "2").await.as_deref(), Ok("new"));
    assert_eq!(server.log().requests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_on_one_host_share_a_connection() {
    let (server, endpoint, network) = serve(Wire::Http2Tls, |_| Answer::text("x")).await;
    let one = network.model(endpoint.clone()).unwrap();
    let other = network
        .model(Endpoint {
            api: Api::LlamaCpp,
            ..endpoint
        })
        .unwrap();
    let chat = TurnEndpoint::new(TurnApi::OpenAi, server.url(), "some-model");
    let chat = network.turn_model(chat).unwrap();
    text(&one, "1").await.unwrap();
    text(&other, "2").await.unwrap();
    chat.connect().await.unwrap();
    assert_eq!(server.log().connections.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_from_an_unknown_authority_is_refused_and_explained() {
    let server = ModelServer::listen(Wire::Http2Tls.listen(), |_| Answer::text("x"))
        .await
        .unwrap();
    // Trusts another server's authority, so that there is one to trust on any machine.
    let other = ModelServer::listen(Wire::Http2Tls.listen(), |_| Answer::text("x"))
        .await
        .unwrap();
    let network = super::trusting(&other);
    let model = network
        .model(Endpoint::new(Api::Fim, server.url(), "starcoder2"))
        .unwrap();
    let error = text(&model, "p").await.unwrap_err();
    assert!(
        matches!(&error.failure, Failure::Tls(why) if why.contains("UnknownIssuer")),
        "{error:?}"
    );
    assert!(
        error
            .user_error()
            .hint
            .is_some_and(|hint| hint.contains("caCertificates"))
    );
    assert_eq!(server.log().requests.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_asked_of_a_server_that_speaks_only_http1_is_explained() {
    let (_server, endpoint, network) = serve(Wire::Http1, |_| Answer::text("x")).await;
    let model = network
        .model(Endpoint {
            http: pairwright::model::HttpVersion::H2c,
            ..endpoint
        })
        .unwrap();
    let error = text(&model, "p").await.unwrap_err();
    assert!(
        matches!(error.failure, Failure::Protocol(_) | Failure::Cut),
        "{error:?}"
    );
}

/// Accepts one connection after the other, reads the head of a request and hands it to `serve`.
async fn proxy(tunnels: bool) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let heads = heads.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // The host is made up: everything goes to the port on this machine.
                let port = head
                    .split([':', ' ', '/'])
                    .find_map(|part| part.parse::<u16>().ok())
                    .unwrap_or(80);
                heads.send(head.clone()).ok();
                if !head.contains("Basic dXNlcjpwYXNz") && !head.contains("basic dXNlcjpwYXNz") {
                    client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await?;
                    return Ok(());
                }
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                if tunnels {
                    client
                        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        .await?;
                } else {
                    server.write_all(head.as_bytes()).await?;
                }
                tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                std::io::Result::Ok(())
            });
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_tunnelled_through_with_tls_and_given_whole_requests_without() {
    for wire in [Wire::Http2Tls, Wire::Http1] {
        let server = ModelServer::listen(wire.listen(), |_| Answer::text("x"))
            .await
            .unwrap();
        let (address, mut heads) = proxy(wire == Wire::Http2Tls).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("authority.pem");
        std::fs::write(&file, server.authority()).unwrap();
        let through = |credentials: &str| NetworkSettings {
            proxy: Proxy::Url(format!("http://{credentials}{address}")),
            no_proxy: None,
            ca_files: vec![file.clone()],
            ..NetworkSettings::default()
        };
        let port = server.address().port();
        let scheme = if wire == Wire::Http2Tls {
            "https"
        } else {
            "http"
        };
        let endpoint = Endpoint::new(
            Api::Fim,
            format!("{scheme}://models.test:{port}"),
            "starcoder2",
        );

        let network = Network::new(&through("user:pass@")).unwrap();
        assert_eq!(
            text(&network.model(endpoint.clone()).unwrap(), "p")
                .await
                .as_deref(),
            Ok("x"),
            "{wire:?}"
        );
        let head = heads.recv().await.unwrap();
        let start = match wire {
            Wire::Http2Tls => format!("CONNECT models.test:{port} HTTP/1.1"),
            _ => format!("POST http://models.test:{port}/v1/completions HTTP/1.1"),
        };
        assert!(head.starts_with(&start), "{head}");

        let network = Network::new(&through("")).unwrap();
        let error = text(&network.model(endpoint).unwrap(), "p")
            .await
            .unwrap_err();
        assert!(
            matches!(error.failure, Failure::Proxy(_)),
            "{wire:?}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_addresses_never_go_through_a_proxy() {
    let (server, endpoint, _) = serve(Wire::Http1, |_| Answer::text("x")).await;
    let settings = NetworkSettings {
        proxy: Proxy::Url("http://127.0.0.1:9".to_owned()),
        ..NetworkSettings::default()
    };
    let model = Network::new(&settings).unwrap().model(endpoint).unwrap();
    assert_eq!(text(&model, "p").await.as_deref(), Ok("x"));
    assert_eq!(server.log().requests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_server_of_both_protocols_is_spoken_to_in_http1_unless_told() {
    let listen = Listen {
        speak: Speak::Both,
        ..Listen::default()
    };
    let server = ModelServer::listen(listen, |_| Answer::text("x"))
        .await
        .unwrap();
    let network = super::trusting(&server);
    let told = format!("h2c://{}", server.address());
    for (url, protocol) in [(server.url(), Protocol::Http1), (told, Protocol::Http2)] {
        let model = network
            .model(Endpoint::new(Api::Fim, url, "starcoder2"))
            .unwrap();
        text(&model, "p").await.unwrap();
        assert_eq!(model.protocol(), Some(protocol));
    }
}
