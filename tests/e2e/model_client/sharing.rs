//! One upstream request for those who ask the same at the same time.

use std::time::Duration;

use model_server::{Answer, End, Ending};
use pairwright::model::FimRequest;
use tokio::time::Instant;

use super::{model, request};

#[tokio::test(flavor = "multi_thread")]
async fn identical_requests_share_one_stream_and_both_get_all_of_it() {
    let (server, model) =
        model(|_| Answer::pieces(["a", "b", "c"]).with_gap(Duration::from_millis(20))).await;
    let mut first = model.complete(request("same"));
    let later = FimRequest {
        deadline: Some(Instant::now() + Duration::from_secs(30)),
        ..request("same")
    };
    let second = model.complete(later);
    let other = model.complete(request("other"));
    assert!(
        first
            .next()
            .await
            .unwrap()
            .is_some_and(|piece| piece.starts_with('a'))
    );
    let (first, second, other) = tokio::join!(first.whole(), second.whole(), other.whole());
    for completion in [first, second, other] {
        assert_eq!(completion.unwrap().text, "abc");
    }
    assert_eq!(server.log().requests.len(), 2);
    assert_eq!((model.stats().requests, model.stats().shared), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_stream_ends_with_its_last_reader() {
    let (server, model) = model(|_| Answer::text("a").ending(Ending::Hang)).await;
    let first = model.complete(request("same"));
    let mut second = model.complete(request("same"));
    server
        .wait("the request", |log| log.requests.first().map(|_| ()))
        .await;
    drop(first);
    assert_eq!(second.next().await, Ok(Some("a".to_owned())));
    assert_eq!(server.log().requests[0].ended, None);
    drop(second);
    let end = server.wait("the reset", |log| log.requests[0].end()).await;
    assert_eq!((end, server.log().requests.len()), (End::Reset(8), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_last_reader_is_gone_is_not_joined() {
    let (server, model) = model(|_| Answer::text("a")).await;
    drop(model.complete(request("same")));
    let completion = model.complete(request("same")).whole().await.unwrap();
    assert_eq!(completion.text, "a");
    assert_eq!(model.stats().shared, 0);
    drop(server);
}
