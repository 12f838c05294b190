//! Each dialect: what is asked, and what is made of the answer.

use model_server::{Answer, Ending, Hole, Seen};
use pairwright::model::{Api, Endpoint, FimRequest, FinishReason, Snippet};
use serde_json::json;

use super::{DIALECTS, Wire, request, serve, text, whole};

fn honest(seen: &Seen) -> Answer {
    Answer::honest(seen, "x + 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_shows_the_model_both_sides_of_the_cursor() {
    for (api, name) in DIALECTS {
        let (server, endpoint, network) = serve(Wire::H2c, honest).await;
        let model = network
            .model(Endpoint {
                api,
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        let completion = whole(&model, request("fn f(x: u32) -> u32 {\n    "))
            .await
            .unwrap();
        assert_eq!(completion.text, "x + 1", "{api:?}");
        assert_eq!(completion.finish.reason, FinishReason::Stop, "{api:?}");
        assert_eq!(completion.finish.usage.prompt_tokens, Some(40), "{api:?}");
        assert_eq!(
            completion.finish.usage.completion_tokens,
            Some(1),
            "{api:?}"
        );
        let log = server.log();
        let hole = Hole::of(log.completions().last().unwrap());
        assert_eq!(hole.prefix, "fn f(x: u32) -> u32 {\n    ", "{api:?}");
        assert_eq!(hole.suffix.as_deref(), Some("\n}\n"), "{api:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_are_what_the_servers_document() {
    let asked = FimRequest {
        language: "rust".to_owned(),
        snippets: vec![Snippet {
            path: "src/a.rs".to_owned(),
            text: "struct A;\n".to_owned(),
        }],
        stop: vec!["\n\n".to_owned()],
        seed: Some(7),
        ..request("P")
    };
    let commented = "// From src/a.rs:\n// struct A;\n// File src/lib.rs:\nP";
    let cases = [
        (
            Api::Fim,
            "starcoder2-3b",
            "/v1/completions",
            json!({
                "model": "starcoder2-3b", "max_tokens": 64, "temperature": 0.0, "stream": true, "seed": 7,
                "prompt": "<repo_name>workspace<file_sep>src/a.rs\nstruct A;\n<file_sep><fim_prefix>src/lib.rs\nP<fim_suffix>\n}\n<fim_middle>",
                "stop": ["\n\n", "<|endoftext|>", "<file_sep>", "<repo_name>"],
            }),
        ),
        (
            Api::LlamaCpp,
            "",
            "/infill",
            json!({
                "input_prefix": "P", "input_suffix": "\n}\n", "prompt": "", "n_predict": 64, "temperature": 0.0,
                "input_extra": [{"filename": "src/a.rs", "text": "struct A;\n"}],
                "samplers": ["top_k", "top_p", "infill", "temperature"], "top_k": 40, "top_p": 0.9,
                "cache_prompt": true, "stream": true, "stop": ["\n\n"], "seed": 7,
                "response_fields": ["content", "stop", "stop_type", "truncated", "tokens_evaluated", "tokens_predicted", "timings/cache_n"],
            }),
        ),
        (
            Api::Ollama,
            "some-coder:7b",
            "/api/generate",
            json!({
                "model": "some-coder:7b", "prompt": commented, "suffix": "\n}\n", "stream": true, "think": false,
                "keep_alive": "30m", "options": {"num_predict": 64, "temperature": 0.0, "stop": ["\n\n"], "seed": 7},
            }),
        ),
        (
            Api::Mistral,
            "codestral-latest",
            "/v1/fim/completions",
            json!({
                "model": "codestral-latest", "prompt": commented, "suffix": "\n}\n", "max_tokens": 64,
                "temperature": 0.0, "stream": true, "stop": ["\n\n"], "random_seed": 7,
            }),
        ),
        (
            Api::DeepSeek,
            "deepseek-chat",
            "/beta/completions",
            json!({
                "model": "deepseek-chat", "prompt": commented, "suffix": "\n}\n", "max_tokens": 64,
                "temperature": 0.0, "stream": true, "stop": ["\n\n"],
            }),
        ),
    ];
    for (api, name, path, body) in cases {
        let (server, endpoint, network) = serve(Wire::Http1, |_| Answer::text("x")).await;
        let model = network
            .model(Endpoint {
                api,
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        let preview = model.preview(&asked);
        assert_eq!(preview.url, format!("{}{path}", server.url()), "{api:?}");
        whole(&model, asked.clone()).await.unwrap();
        let seen = server.log().requests[0].clone();
        assert_eq!(
            (seen.path.as_str(), &seen.json(), &preview.body),
            (path, &body, &body),
            "{api:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_control_token_passes_in_any_dialect_however_it_is_split() {
    let leaks: [&[&str]; 6] = [
        &["x + 1<|fim_middle|>garbage"],
        &["x + 1<|endo", "ftext|>", "garbage"],
        &["x + 1", "<", "|", "file_sep", "|", ">", "other.rs"],
        &["x + 1<fim_pre", "fix>"],
        &["x + 1<｜fim", "▁hole｜>"],
        &["x + 1<|im_en"],
    ];
    for (api, name) in DIALECTS {
        for leak in leaks {
            let (_server, endpoint, network) = serve(Wire::H2c, move |seen| {
                match Hole::of(seen).prefix.as_str() {
                    "P" => Answer::pieces(leak.iter().copied()),
                    _ => honest(seen),
                }
            })
            .await;
            let model = network
                .model(Endpoint {
                    api,
                    model: name.to_owned(),
                    ..endpoint
                })
                .unwrap();
            assert_eq!(
                text(&model, "P").await.as_deref(),
                Ok("x + 1"),
                "{api:?} {leak:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_only_one_family_has_are_ends_for_that_family_alone() {
    let cases = [
        ("codellama:7b-code", "a <EOT>b", "a"),
        ("codellama:7b-code", "a</s>", "a"),
        ("codestral", "a[PREFIX]b", "a"),
        ("codestral", "a\n+++++ other.rs\n", "a"),
        (
            "starcoder2",
            "<s>a</s> [PREFIX] <EOT>",
            "<s>a</s> [PREFIX] <EOT>",
        ),
    ];
    for (name, answer, expected) in cases {
        let (_server, endpoint, network) = serve(Wire::H2c, move |_| Answer::text(answer)).await;
        let model = network
            .model(Endpoint {
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        assert_eq!(text(&model, "P").await.as_deref(), Ok(expected), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_tokens_in_the_users_text_reach_the_server_as_text() {
    let (server, endpoint, network) = serve(Wire::H2c, honest).await;
    let model = network.model(endpoint).unwrap();
    text(&model, "let t = \"<|fim_suffix|>\"; // <|endoftext|>")
        .await
        .unwrap();
    let prompt = server.log().requests[0].json()["prompt"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = "<|fim_prefix|>let t = \"< |fim_suffix|>\"; // < |endoftext|><|fim_suffix|>\n}\n<|fim_middle|>";
    assert_eq!(prompt, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_stop_strings_is_kept_to_though_servers_are_told_four() {
    for (api, name) in DIALECTS {
        let (server, endpoint, network) =
            serve(Wire::H2c, |seen| match Hole::of(seen).prefix.as_str() {
                "P" => Answer::pieces(["a", "b#6", "c"]),
                _ => honest(seen),
            })
            .await;
        let model = network
            .model(Endpoint {
                api,
                model: name.to_owned(),
                ..endpoint
            })
            .unwrap();
        let stop = (0..9).map(|n| format!("#{n}")).collect();
        let completion = whole(
            &model,
            FimRequest {
                stop,
                ..request("P")
            },
        )
        .await
        .unwrap();
        assert_eq!(
            (completion.text.as_str(), completion.finish.reason),
            ("ab", FinishReason::Stop),
            "{api:?}"
        );
        // The server refuses more than four.
        assert_eq!(server.log().ended(model_server::End::Cut), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_for_an_end_is_told_where_the_server_tells_it() {
    for (api, name) in DIALECTS {
        for (ending, expected) in [
            (Ending::Proper, FinishReason::Stop),
            (Ending::Length, FinishReason::Length),
            (Ending::Bare, FinishReason::Unsaid),
        ] {
            let (_server, endpoint, network) = serve(Wire::Http1, move |seen| {
                match Hole::of(seen).prefix.as_str() {
                    "P" => Answer::pieces(["a", "b"]).ending(ending),
                    _ => honest(seen),
                }
            })
            .await;
            let model = network
                .model(Endpoint {
                    api,
                    model: name.to_owned(),
                    ..endpoint
                })
                .unwrap();
            let completion = whole(&model, request("P")).await.unwrap();
            assert_eq!(
                (completion.text.as_str(), completion.finish.reason),
                ("ab", expected),
                "{api:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stream_after_all_is_understood() {
    let cases = [
        (
            Api::Fim,
            "{\n  \"choices\": [{\"text\": \"x + 1\", \"finish_reason\": \"stop\"}]\n}",
        ),
        (
            Api::Mistral,
            "{\"choices\": [{\"message\": {\"content\": \"x + 1\"}, \"finish_reason\": \"stop\"}]}",
        ),
        (
            Api::LlamaCpp,
            "{\"content\": \"x + 1\", \"stop\": true, \"stop_type\": \"eos\"}",
        ),
        (
            Api::Ollama,
            "{\"response\": \"x + 1\", \"done\": true, \"done_reason\": \"stop\"}",
        ),
    ];
    for (api, body) in cases {
        let (_server, endpoint, network) = serve(Wire::Http1, move |_| {
            Answer::bytes("application/json; charset=utf-8", [body])
        })
        .await;
        let model = network.model(Endpoint { api, ..endpoint }).unwrap();
        let completion = whole(&model, request("P")).await.unwrap();
        assert_eq!(
            (completion.text.as_str(), completion.finish.reason),
            ("x + 1", FinishReason::Stop),
            "{api:?}"
        );
    }
}
