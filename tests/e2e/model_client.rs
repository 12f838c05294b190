//! The model client against a scripted server, over real sockets.

mod connections;
mod dialects;
mod failures;
mod keys;
mod probe;
mod sharing;
mod turns;

use std::time::Duration;

use model_server::{Answer, Listen, ModelServer, Seen, Speak};
use pairwright::model::{
    Api, Completion, Endpoint, FimRequest, HttpVersion, Model, ModelError, Network,
    NetworkSettings, Proxy,
};

/// Every dialect, with a model name its server would know.
const DIALECTS: [(Api, &str); 6] = [
    (Api::OpenAi, "some-model"),
    (Api::Fim, "qwen2.5-coder:1.5b"),
    (Api::LlamaCpp, ""),
    (Api::Ollama, "qwen2.5-coder:1.5b"),
    (Api::Mistral, "codestral-latest"),
    (Api::DeepSeek, "deepseek-chat"),
];

/// The wires a model can be reached over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Http1,
    H2c,
    Http1Tls,
    Http2Tls,
}

const WIRES: [Wire; 4] = [Wire::Http1, Wire::H2c, Wire::Http1Tls, Wire::Http2Tls];

impl Wire {
    fn listen(self) -> Listen {
        let (tls, speak) = match self {
            Self::Http1 => (false, Speak::Http1),
            Self::H2c => (false, Speak::Http2),
            Self::Http1Tls => (true, Speak::Http1),
            Self::Http2Tls => (true, Speak::Both),
        };
        Listen {
            tls,
            speak,
            ..Listen::default()
        }
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::Http2Tls)
    }

    fn version(self) -> HttpVersion {
        if self == Self::H2c {
            HttpVersion::H2c
        } else {
            HttpVersion::Auto
        }
    }
}

/// A server on `wire` and a client of it that trusts its certificate.
async fn serve(
    wire: Wire,
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (ModelServer, Endpoint, Network) {
    let server = ModelServer::listen(wire.listen(), script).await.unwrap();
    let mut endpoint = Endpoint::new(Api::Fim, server.url(), "qwen2.5-coder");
    endpoint.http = wire.version();
    let network = trusting(&server);
    (server, endpoint, network)
}

fn trusting(server: &ModelServer) -> Network {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authority.pem");
    std::fs::write(&file, server.authority()).unwrap();
    let settings = NetworkSettings {
        proxy: Proxy::None,
        no_proxy: None,
        ca_files: vec![file],
        ..NetworkSettings::default()
    };
    Network::new(&settings).unwrap()
}

/// A server and a model on it, speaking HTTP/2 without TLS.
async fn model(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (ModelServer, Model) {
    let (server, endpoint, network) = serve(Wire::H2c, script).await;
    let model = network.model(endpoint).unwrap();
    (server, model)
}

fn request(prefix: &str) -> FimRequest {
    FimRequest {
        path: "src/lib.rs".to_owned(),
        language: "rust".to_owned(),
        prefix: prefix.to_owned(),
        suffix: "\n}\n".to_owned(),
        snippets: Vec::new(),
        max_tokens: 64,
        stop: Vec::new(),
        temperature: 0.0,
        seed: None,
        deadline: None,
    }
}

async fn text(model: &Model, prefix: &str) -> Result<String, ModelError> {
    Ok(whole(model, request(prefix)).await?.text)
}

/// Waits for a completion, but not forever: a hanging client is a failing test.
async fn whole(model: &Model, request: FimRequest) -> Result<Completion, ModelError> {
    let waiting = tokio::time::timeout(Duration::from_secs(20), model.complete(request).whole());
    waiting.await.expect("an end within 20 seconds")
}
