use proptest::prelude::*;
use serde_json::json;

use super::*;

fn dialects() -> Vec<Dialect> {
    let template = Template::of_family(crate::model::Family::QwenCoder);
    vec![
        Dialect::Suffix,
        Dialect::Raw(template.clone()),
        Dialect::Infill,
        Dialect::Generate,
        Dialect::GenerateRaw(template),
        Dialect::Mistral,
        Dialect::DeepSeek,
    ]
}

/// Reads an event and renders what matters: text, reason, tokens, and whether it is the last.
fn read(dialect: &Dialect, data: &str) -> String {
    let event = Event {
        name: String::new(),
        data: data.as_bytes().to_vec(),
    };
    match dialect.read(&event) {
        Ok(piece) => {
            let reason = piece
                .finish
                .map_or("-".to_owned(), |reason| format!("{reason:?}"));
            let count =
                |tokens: Option<u64>| tokens.map_or("-".to_owned(), |tokens| tokens.to_string());
            let Usage {
                prompt_tokens,
                completion_tokens,
                cached_tokens,
            } = piece.usage;
            let tokens = [prompt_tokens, completion_tokens, cached_tokens]
                .map(count)
                .join("/");
            format!(
                "{:?} {reason} {tokens}{}",
                piece.text,
                if piece.last { " last" } else { "" }
            )
        }
        Err(failure) => format!("{failure:?}"),
    }
}

#[test]
fn the_events_of_real_servers_are_read() {
    let (openai, infill, ollama) = (&Dialect::Suffix, &Dialect::Infill, &Dialect::Generate);
    let cases = [
        // vLLM, llama.cpp, OpenAI.
        (
            openai,
            r#"{"id":"cmpl-1","choices":[{"index":0,"text":" + 1","logprobs":null,"finish_reason":null}]}"#,
            r#"" + 1" - -/-/-"#,
        ),
        (
            openai,
            r#"{"choices":[{"text":"","finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            r#""" Length 9/2/4"#,
        ),
        (
            openai,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
            r#""" - 9/2/-"#,
        ),
        (openai, "[DONE]", r#""" - -/-/- last"#),
        // Mistral and gateways in the shape of chat.
        (
            &Dialect::Mistral,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}]}"#,
            r#""x" - -/-/-"#,
        ),
        (
            &Dialect::Mistral,
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"model_length"}]}"#,
            r#""" Length -/-/-"#,
        ),
        // DeepSeek counts cache hits under a name of its own.
        (
            &Dialect::DeepSeek,
            r#"{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"prompt_cache_hit_tokens":8}}"#,
            r#""x" Stop 9/-/8"#,
        ),
        // llama.cpp.
        (
            infill,
            r#"{"index":0,"content":"]","tokens":[96],"stop":false,"id_slot":-1,"tokens_predicted":1,"tokens_evaluated":17}"#,
            r#""]" - -/-/-"#,
        ),
        (
            infill,
            r#"{"content":"","stop":true,"stop_type":"eos","tokens_evaluated":17,"tokens_predicted":2,"timings/cache_n":5}"#,
            r#""" Stop 17/2/5 last"#,
        ),
        (
            infill,
            r#"{"content":"","stop":true,"stop_type":"limit","timings":{"cache_n":5}}"#,
            r#""" Length -/-/5 last"#,
        ),
        // Ollama.
        (
            ollama,
            r#"{"model":"m","created_at":"2026","response":"x","done":false}"#,
            r#""x" - -/-/-"#,
        ),
        (
            ollama,
            r#"{"response":"","done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":3}"#,
            r#""" Stop 26/3/- last"#,
        ),
        (
            ollama,
            r#"{"error":"model 'm' not found"}"#,
            r#"Faulted { status: 200, said: "model 'm' not found" }"#,
        ),
        (
            openai,
            r#"{"error":{"message":"too long","code":400}}"#,
            r#"Faulted { status: 400, said: "too long" }"#,
        ),
        (
            openai,
            r#"{"object":"pong"}"#,
            r#"Garbage("an event has no text where its dialect puts it")"#,
        ),
        (infill, "nonsense", r#"Garbage("an event is not JSON")"#),
    ];
    for (dialect, data, expected) in cases {
        assert_eq!(read(dialect, data), expected, "{data}");
    }
}

fn asking(stop: &[&str]) -> FimRequest {
    FimRequest {
        path: String::new(),
        language: String::new(),
        prefix: String::new(),
        suffix: String::new(),
        snippets: Vec::new(),
        max_tokens: 1,
        stop: stop.iter().copied().map(str::to_owned).collect(),
        temperature: 0.0,
        seed: None,
        deadline: None,
    }
}

#[test]
fn no_more_stop_strings_are_told_than_servers_take_and_none_twice() {
    let told = |wanted: &[&str], users: &[&str]| {
        let mut endpoint = Endpoint::new(Api::Fim, "", "m");
        endpoint.stop = users.iter().copied().map(str::to_owned).collect();
        let call = Call {
            endpoint: &endpoint,
            request: &asking(wanted),
            spoken: &ControlText::none(),
        };
        let ends = ["<e1>", "<e2>"].map(str::to_owned);
        let stops = Dialect::stops(&call, &ends).into_iter();
        stops.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&["\n", "", "\n", "a", "b"], &["x"]),
        ["\n", "a", "b", "x"]
    );
    assert_eq!(told(&["\n"], &["x"]), ["\n", "x", "<e1>", "<e2>"]);
}

#[test]
fn how_likely_tokens_are_is_told_where_servers_listen() {
    let mut endpoint = Endpoint::new(Api::Fim, "", "m");
    endpoint.logit_bias = [("12", -100.0), ("end", 1.5)]
        .map(|(token, bias)| (token.to_owned(), bias))
        .into();
    for dialect in dialects() {
        let call = Call {
            endpoint: &endpoint,
            request: &asking(&[]),
            spoken: &ControlText::none(),
        };
        let body = dialect.body(&call);
        let expected = match dialect {
            Dialect::Suffix | Dialect::Raw(_) => json!({ "12": -100.0, "end": 1.5 }),
            Dialect::Infill => json!([[12, -100.0], ["end", 1.5]]),
            Dialect::Generate | Dialect::GenerateRaw(_) | Dialect::Mistral | Dialect::DeepSeek => {
                Value::Null
            }
        };
        assert_eq!(body["logit_bias"], expected, "{}", dialect.in_words());
    }
}

/// JSON in the shapes of answers, with anything in the places that are read.
fn answer_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("1e400".to_owned()),
        ".{0,8}".prop_map(|text| Value::from(text).to_string()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ];
    let names = [
        "choices", "text", "delta", "content", "usage", "error", "message", "code", "stop",
        "response", "done",
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((proptest::sample::select(names.to_vec()), inner), 0..4)
                .prop_map(|fields| {
                    let fields: Vec<String> = fields
                        .iter()
                        .map(|(name, value)| format!("\"{name}\":{value}"))
                        .collect();
                    format!("{{{}}}", fields.join(","))
                }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_an_event_holds_it_is_read_or_refused(
        data in prop_oneof![answer_like(), ".{0,40}"],
        name in prop_oneof![Just(String::new()), Just("error".to_owned())],
    ) {
        let event = Event { name, data: data.into_bytes() };
        for dialect in dialects() {
            if let Err(failure) = dialect.read(&event) {
                let stated = matches!(failure, Failure::Garbage(_) | Failure::Faulted { .. });
                prop_assert!(stated);
            }
        }
    }
}
