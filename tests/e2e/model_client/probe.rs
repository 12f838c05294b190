//! Finding out what an endpoint supports.

use std::time::Duration;

use model_server::{Answer, Hole, Route, Seen};
use pairwright::model::{Api, Endpoint, Failure, Fim, Health, Network, NetworkSettings, Probe};

use super::{DIALECTS, Wire, request, serve, text, whole};

/// The text before the hole of the question that probes ask.
const QUESTION: &str = "a = [1, 2, ";

/// Serves a list of models beside `script`.
fn listing(
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    move |seen| match seen.route() {
        Some(Route::Models) => Answer::bytes(
            "application/json",
            ["{\"data\":[{\"id\":\"some-model\"},{\"id\":\"qwen2.5-coder\"}]}"],
        ),
        Some(Route::Tags) => Answer::bytes(
            "application/json",
            ["{\"models\":[{\"name\":\"qwen2.5-coder:latest\"}]}"],
        ),
        _ => script(seen),
    }
}

fn has_suffix(seen: &Seen) -> bool {
    seen.json().get("suffix").is_some()
}

fn summary(probe: &Probe) -> String {
    format!("{:?} by {}", probe.fim, probe.way)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_is_proven_on_a_server_that_fills_in() {
    for (api, name) in DIALECTS {
        let (_server, endpoint, network) =
            serve(Wire::Http2Tls, listing(|seen| Answer::honest(seen, "x"))).await;
        let model = network
            .model(Endpoint {
                api,
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        let probe = model.probe().await;
        assert_eq!(
            (probe.fim, &probe.error),
            (Fim::Works, &None),
            "{api:?}: {probe:?}"
        );
        assert_eq!(
            probe
                .protocol
                .map(|protocol| protocol.to_string())
                .as_deref(),
            Some("HTTP/2")
        );
        assert!(probe.first_text.is_some() && probe.answer.is_some() && probe.connect.is_some());
        assert!(
            probe
                .models
                .as_ref()
                .is_some_and(|models| !models.is_empty()),
            "{api:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suffix_is_used_only_where_it_has_an_effect() {
    let refuses = |seen: &Seen| {
        if has_suffix(seen) {
            Answer::error(400, "suffix is not currently supported")
        } else {
            Answer::honest(seen, "x")
        }
    };
    let ignores = |seen: &Seen| {
        if has_suffix(seen) {
            Answer::blind(seen)
        } else {
            Answer::honest(seen, "x")
        }
    };
    let counts = |seen: &Seen| {
        if has_suffix(seen) {
            Answer::text("\n").with_prompt_tokens(9)
        } else {
            Answer::honest(seen, "x")
        }
    };
    let honest = |seen: &Seen| Answer::honest(seen, "x");
    let constant = |_: &Seen| Answer::text("return 1");
    type Script = fn(&Seen) -> Answer;
    let raw = "Works by /completions with the prompt of qwen2.5-coder";
    let alone = "/completions with the prompt of the text before the cursor";
    let cases: [(&str, Script, &str, String); 8] = [
        ("qwen2.5-coder", refuses, raw, "raw".to_owned()),
        ("qwen2.5-coder", ignores, raw, "raw".to_owned()),
        ("qwen2.5-coder", counts, raw, "raw".to_owned()),
        (
            "some-model",
            honest,
            "Works by /completions with `suffix`",
            "suffix".to_owned(),
        ),
        (
            "qwen2.5-coder",
            honest,
            "Works by /completions with `suffix`",
            "suffix".to_owned(),
        ),
        (
            "some-model",
            refuses,
            &format!("Refused by {alone}"),
            "alone".to_owned(),
        ),
        (
            "some-model",
            ignores,
            &format!("Ignored by {alone}"),
            "alone".to_owned(),
        ),
        // An answer that proves nothing is no reason to do without.
        (
            "some-model",
            constant,
            "Unclear by /completions with `suffix`",
            "suffix".to_owned(),
        ),
    ];
    for (name, script, expected, asked) in cases {
        let (server, endpoint, network) = serve(Wire::H2c, script).await;
        let model = network
            .model(Endpoint {
                api: Api::OpenAi,
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        let probe = model.probe().await;
        assert_eq!(summary(&probe), expected, "{probe:?}");
        assert_eq!(
            probe.advice.len(),
            usize::from(asked == "alone"),
            "{:?}",
            probe.advice
        );
        text(&model, "P").await.unwrap();
        let log = server.log();
        let last = log.completions().last().copied().cloned().unwrap();
        let seen_as = match (has_suffix(&last), Hole::of(&last).suffix) {
            (true, _) => "suffix",
            (false, Some(_)) => "raw",
            (false, None) => "alone",
        };
        assert_eq!(seen_as, asked, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_place_for_the_suffix_is_asked_raw() {
    let ollama = |seen: &Seen| {
        if has_suffix(seen) {
            Answer::error(400, "qwen2.5-coder does not support insert")
        } else {
            Answer::honest(seen, "x")
        }
    };
    let llamacpp = |seen: &Seen| match seen.route() {
        Some(Route::Infill) => Answer::error(
            501,
            "Infill is not supported by this model: prefix token is missing.",
        ),
        _ => Answer::honest(seen, "x"),
    };
    type Script = fn(&Seen) -> Answer;
    let cases: [(Api, Script, &str); 2] = [
        (
            Api::Ollama,
            ollama,
            "Works by Ollama /api/generate with the prompt of qwen2.5-coder",
        ),
        (
            Api::LlamaCpp,
            llamacpp,
            "Works by /completions with the prompt of qwen2.5-coder",
        ),
    ];
    for (api, script, expected) in cases {
        let (_server, endpoint, network) = serve(Wire::Http1, script).await;
        let model = network.model(Endpoint { api, ..endpoint }).unwrap();
        assert_eq!(summary(&*model.probe().await), expected);
        assert_eq!(text(&model, "P").await.as_deref(), Ok("x"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leads_to_the_way_that_works() {
    let (_server, endpoint, network) = serve(Wire::Http1, |seen| match seen.route() {
        Some(Route::Infill) => Answer::error(501, "Infill is not supported by this model"),
        _ => Answer::honest(seen, "x"),
    })
    .await;
    let model = network
        .model(Endpoint {
            api: Api::LlamaCpp,
            ..endpoint
        })
        .unwrap();
    let error = text(&model, "1").await.unwrap_err();
    assert!(
        matches!(error.failure, Failure::Rejected { status: 501, .. }),
        "{error:?}"
    );
    // The refusal has started the probe; this waits for it.
    assert_eq!(model.probe().await.fim, Fim::Works);
    assert_eq!(text(&model, "2").await.as_deref(), Ok("x"));
}

/// Lets `time` pass on the clock of the client and the server.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_asked_anew_what_it_supports_but_only_once_a_minute() {
    let (server, endpoint, network) = serve(Wire::Http1, |seen| {
        if Hole::of(seen).prefix == QUESTION {
            Answer::honest(seen, "")
        } else {
            Answer::error(400, "the prompt is too long")
        }
    })
    .await;
    let model = network
        .model(Endpoint {
            api: Api::LlamaCpp,
            ..endpoint
        })
        .unwrap();
    let probes = || {
        let log = server.log();
        let asked = log.completions();
        asked
            .iter()
            .filter(|seen| Hole::of(seen).prefix == QUESTION)
            .count()
    };
    text(&model, "1").await.unwrap_err();
    assert_eq!(model.probe().await.fim, Fim::Works);
    assert_eq!(probes(), 1, "a first refusal leads to a probe");

    pass(Duration::from_secs(30)).await;
    text(&model, "2").await.unwrap_err();
    // Answered from what is known; asked again if the refusal had thrown that away.
    model.probe().await;
    assert_eq!(probes(), 1, "refused again within a minute");

    pass(Duration::from_secs(31)).await;
    text(&model, "3").await.unwrap_err();
    model.probe().await;
    assert_eq!(probes(), 2, "refused again after a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_reports_the_health_of_the_endpoint() {
    let (_server, endpoint, network) = serve(Wire::Http1, |seen| match seen.nth {
        0..=1 => Answer::error(503, "loading the model"),
        _ => Answer::honest(seen, "x"),
    })
    .await;
    let model = network.model(endpoint).unwrap();
    model.probe().await;
    let Health::Failing { why } = model.health().borrow().clone() else {
        panic!("not failing")
    };
    assert!(why.message.contains("loading the model"), "{why}");
    model.probe_again().await;
    assert_eq!(*model.health().borrow(), Health::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_completion_waits_for_the_probe_that_it_needs_and_later_ones_do_not_repeat_it() {
    let (server, endpoint, network) = serve(Wire::H2c, |seen| Answer::honest(seen, "x")).await;
    let endpoint = Endpoint {
        api: Api::OpenAi,
        ..endpoint
    };
    let model = network.model(endpoint.clone()).unwrap();
    let (one, two) = tokio::join!(whole(&model, request("1")), whole(&model, request("2")));
    assert_eq!(
        (one.unwrap().text, two.unwrap().text),
        ("x".to_owned(), "x".to_owned())
    );
    // A model made anew, as settings change, knows it already.
    let again = network.model(endpoint).unwrap();
    again.probe().await;
    text(&again, "3").await.unwrap();
    let probes = server
        .log()
        .completions()
        .iter()
        .filter(|seen| Hole::of(seen).prefix == QUESTION)
        .count();
    assert_eq!((probes, server.log().completions().len()), (1, 4));

    again.probe_again().await;
    assert_eq!(server.log().completions().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_goes_on_when_the_keystroke_that_needed_it_is_gone() {
    let (server, endpoint, network) = serve(Wire::H2c, |seen| {
        Answer::honest(seen, "x").after(Duration::from_millis(100))
    })
    .await;
    let model = network
        .model(Endpoint {
            api: Api::OpenAi,
            ..endpoint
        })
        .unwrap();
    let stream = model.complete(request("1"));
    server
        .wait("the probe", |log| log.completions().first().map(|_| ()))
        .await;
    drop(stream);
    assert_eq!(model.probe().await.fim, Fim::Works);
    assert_eq!(server.log().completions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_listed_is_pointed_out() {
    let (_server, endpoint, network) =
        serve(Wire::Http1, listing(|seen| Answer::honest(seen, "x"))).await;
    for (api, name, noticed) in [
        (Api::Fim, "qwen2.5-coder", false),
        (Api::Fim, "starcoder2", true),
        (Api::Ollama, "qwen2.5-coder", false),
        (Api::Ollama, "codellama:7b", true),
    ] {
        let model = network
            .model(Endpoint {
                api,
                model: name.to_owned(),
                ..endpoint.clone()
            })
            .unwrap();
        let probe = model.probe().await;
        let said = probe
            .advice
            .iter()
            .any(|advice| advice.message.contains("does not list"));
        assert_eq!(said, noticed, "{name}: {:?}", probe.advice);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_used_says_why() {
    let (_server, endpoint, network) = serve(Wire::Http1, |_| Answer::error(401, "no")).await;
    let probe = network.model(endpoint.clone()).unwrap().probe().await;
    assert!(
        matches!(&probe.error, Some(error) if matches!(error.failure, Failure::Unauthorized { .. })),
        "{probe:?}"
    );

    let page = |_: &Seen| Answer::bytes("text/html", ["<html></html>"]);
    let (_server, endpoint, network) = serve(Wire::Http1, page).await;
    let probe = network.model(endpoint).unwrap().probe().await;
    assert!(
        matches!(&probe.error, Some(error) if matches!(error.failure, Failure::NotAStream { .. })),
        "{probe:?}"
    );
}

#[test]
fn a_setting_that_cannot_work_is_refused_before_anything_is_sent() {
    let network = Network::new(&NetworkSettings::default()).unwrap();
    let base = Endpoint::new(Api::Fim, "http://localhost:1", "mystery-model");
    let header = [("bad header".to_owned(), pairwright::model::Secret::new("x"))].into();
    let cases = [
        (base.clone(), "template"),
        (
            Endpoint {
                template: Some("nonsense".to_owned()),
                ..base.clone()
            },
            "template",
        ),
        (
            Endpoint {
                template: Some("{prefix}{suffix}".to_owned()),
                ..base.clone()
            },
            "template",
        ),
        (
            Endpoint {
                url: "localhost:8000".to_owned(),
                ..base.clone()
            },
            "http",
        ),
        (
            Endpoint {
                headers: header,
                api: Api::LlamaCpp,
                ..base.clone()
            },
            "headers",
        ),
    ];
    for (endpoint, mentions) in cases {
        let Err(error) = network.model(endpoint) else {
            panic!("{mentions}: accepted")
        };
        assert!(error.to_string().contains(mentions), "{error}");
    }
    assert!(
        network
            .model(Endpoint {
                template: Some("<A>{prefix}<B>{suffix}<C>".to_owned()),
                ..base
            })
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_probe_fails_is_one_failure() {
    let network = Network::new(&NetworkSettings::default()).unwrap();
    // Nothing listens there.
    let endpoint = Endpoint::new(Api::OpenAi, "http://127.0.0.1:9", "some-model");
    let model = network.model(endpoint).unwrap();
    for prefix in ["1", "2", "3"] {
        let error = text(&model, prefix).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused, "{prefix}");
    }
    assert!(matches!(&*model.health().borrow(), Health::Paused { .. }));
}
