//! Requests that are looked at before they are sent, by patterns, a program and a service.

use super::*;

/// What must not be sent: [`TYPED`] where the cursor is, and not where it was found.
const PATTERN: &str = r"multiply\(<.fim_suffix";
const PLAIN: &str = "multiply(<|fim_suffix";
/// A line that may be sent; the model answers it, nobody else could.
const OTHER: &str = "omega = ";

/// The model's part of a session: says how to go on with whatever it is asked.
async fn talker() -> ModelServer {
    model(|seen| match Hole::of(seen).prefix.ends_with(OTHER) {
        true => Answer::text("alpha + 1"),
        false => Answer::text("first, second)"),
    })
    .await
}

fn is_sent(model: &ModelServer) -> bool {
    let log = model.log();
    let mut asked = log.completions().into_iter();
    asked.any(|seen| Hole::of(seen).prefix.ends_with(TYPED))
}

async fn other_service(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> ModelServer {
    let listen = Listen {
        is_other: true,
        ..Listen::default()
    };
    ModelServer::listen(listen, script).await.unwrap()
}

/// A service that does not let go what has [`PLAIN`] in it, and knows who may ask it.
async fn service() -> ModelServer {
    other_service(|seen| {
        let is_known = seen.header("authorization") == Some("Bearer a-key-of-the-service");
        let said = match String::from_utf8_lossy(&seen.body).contains(PLAIN) {
            _ if !is_known => return Answer::error(401, "who are you?"),
            true => r#"{"allow": false, "reason": "no multiplication\u001b[31m"}"#,
            false => r#"{"allow": true}"#,
        };
        Answer::bytes("application/json", [said])
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_sent_is_not_and_the_embedded_engine_answers() {
    let service = service().await;
    let told = format!("{} says: no multiplication[31m", service.url());
    let program =
        format!("if grep -qF '{PLAIN}'; then echo \"not to $PAIRWRIGHT_DESTINATION\"; exit 1; fi");
    let guards = [
        (
            format!("patterns = ['nothing like it', '{PATTERN}']"),
            "pattern 2 of `outbound.patterns` is in it".to_owned(),
        ),
        (
            format!("command = ['sh', '-c', '''{program}''']"),
            "\"sh\" says: not to http://127.0.0.1:".to_owned(),
        ),
        (
            format!(
                "url = '{}/v1/look'\napiKeyCommand = ['echo', 'a-key-of-the-service']",
                service.url()
            ),
            told,
        ),
    ];
    for (guard, why) in guards {
        let model = talker().await;
        let (url, settings) = (model.url(), format!("[outbound]\n{guard}\n"));
        tokio::task::spawn_blocking(move || {
            let mut session = Session::under(&url, &settings);
            assert_eq!(session.ask(OTHER).as_deref(), Some("omega = alpha + 1"));
            assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE));
            session.told(&["Not sent to", &why, "using the embedded engine"]);
            // It is no fault of the model, which is asked at once again.
            assert_eq!(session.ask(OTHER).as_deref(), Some("omega = alpha + 1"));
            session.ends_without_telling_the_key();
        })
        .await
        .unwrap();
        assert!(!is_sent(&model), "{guard}");
    }
    let log = service.log();
    let to = log.requests.iter();
    assert!(
        to.map(|seen| (
            seen.path.as_str(),
            seen.header("pairwright-destination").is_some()
        ))
        .all(|seen| seen == ("/v1/look", true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_is_not_sent() {
    let broken = other_service(|_| Answer::error(500, "broken")).await;
    let moved = other_service(|_| Answer::error(301, "").with_header("location", "/")).await;
    let empty = other_service(|_| Answer::bytes("text/plain", ["fine"])).await;
    let cases = [
        (
            "command = ['/no/such/program']".to_owned(),
            "could not be started",
        ),
        (
            "command = ['sh', '-c', 'kill -9 $$']".to_owned(),
            "was killed",
        ),
        (
            "command = ['sleep', '1000']\ntimeoutMs = 10".to_owned(),
            "did not finish within 10ms",
        ),
        (format!("url = '{}'", broken.url()), "it answered 500."),
        (
            format!("url = '{}'", moved.url()),
            "it answered with status 301.",
        ),
        (
            format!("url = '{}'", empty.url()),
            "its answer has no `allow`",
        ),
        (
            "url = 'http://127.0.0.1:9/look'".to_owned(),
            "it refused the connection",
        ),
        ("patterns = ['(']".to_owned(), "unclosed group"),
        ("patterns = 'falcon'".to_owned(), "cannot be read"),
        ("pattern = ['falcon']".to_owned(), "cannot be read"),
        ("url = 'look'".to_owned(), "not a URL"),
    ];
    for (guard, why) in cases {
        let model = talker().await;
        let (url, settings) = (model.url(), format!("[outbound]\n{guard}\n"));
        tokio::task::spawn_blocking(move || {
            let mut session = Session::under(&url, &settings);
            assert_eq!(session.ask(TYPED).as_deref(), Some(WHOLE), "{settings}");
            session.told(&[why]);
            session.ends_without_telling_the_key();
        })
        .await
        .unwrap();
        let log = model.log();
        let sent = log.requests.iter().filter(|seen| !seen.body.is_empty());
        assert_eq!(sent.count(), 0, "{guard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_ones_own_are_sent_requests_unseen() {
    let model = talker().await;
    let settings = "[outbound]\npatterns = ['.']\nexcept = ['127.0.0.1']\n";
    let mut session = Session::under(&model.url(), settings);
    assert_eq!(session.ask(TYPED).as_deref(), Some(WELL));
}
