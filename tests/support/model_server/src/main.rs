//! Runs the scripted model server by hand: `cargo run -p model-server -- --help`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use model_server::{Answer, Ending, Listen, ModelServer, Speak};

/// A model server that gives the same answer to every completion, in every dialect.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(default_value = "127.0.0.1:8012")]
    address: SocketAddr,
    /// Text of every answer, in pieces.
    #[arg(long, default_values_t = ["return ".to_owned(), "42".to_owned()])]
    piece: Vec<String>,
    /// Milliseconds before an answer.
    #[arg(long, default_value_t = 120)]
    delay: u64,
    /// Milliseconds between pieces.
    #[arg(long, default_value_t = 0)]
    gap: u64,
    /// Listen with TLS; the certificate authority is written to the file given.
    #[arg(long, value_name = "FILE")]
    tls: Option<std::path::PathBuf>,
    /// Which HTTP to speak.
    #[arg(long, value_enum, default_value_t = Http::Both)]
    http: Http,
    /// Answer with this status and an error instead.
    #[arg(long)]
    status: Option<u16>,
    /// What goes wrong.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Http {
    Both,
    H2c,
    #[value(name = "1.1")]
    Http1,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fault {
    /// Never answers.
    Never,
    /// Breaks off in the middle.
    Cut,
    /// Sends its text again and again.
    Endless,
    /// Answers with a web page.
    Html,
    /// Answers with bytes that mean nothing.
    Garbage,
    /// Leaks control tokens.
    Leak,
    /// Refuses `suffix`.
    NoSuffix,
    /// Takes `suffix` and ignores it.
    Blind,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listen = Listen {
        address: Some(arguments.address),
        tls: arguments.tls.is_some(),
        speak: match arguments.http {
            Http::Both => Speak::Both,
            Http::H2c => Speak::Http2,
            Http::Http1 => Speak::Http1,
        },
        ..Listen::default()
    };
    let authority = arguments.tls.clone();
    let server = ModelServer::listen(listen, move |seen| answer(&arguments, seen)).await?;
    if let Some(file) = authority {
        std::fs::write(file, server.authority())?;
    }
    let mut reported = 0;
    loop {
        let next = server.wait_for_end(reported);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            seen = next => {
                reported = seen.nth + 1;
                report(&seen);
            }
        }
    }
}

fn answer(arguments: &Arguments, seen: &model_server::Seen) -> Answer {
    let (delay, gap) = (
        Duration::from_millis(arguments.delay),
        Duration::from_millis(arguments.gap),
    );
    if let Some(status) = arguments.status {
        return Answer::error(status, "as the script says").after(delay);
    }
    let text = Answer::pieces(arguments.piece.clone()).with_gap(gap);
    let answer = match arguments.fault {
        None => text,
        Some(Fault::Never) => Answer::never(),
        Some(Fault::Cut) => text.ending(Ending::Cut),
        Some(Fault::Endless) => text.ending(Ending::Endless),
        Some(Fault::Html) => Answer::bytes("text/html", ["<html>log in</html>"]),
        Some(Fault::Garbage) => Answer::bytes(
            "text/event-stream",
            ["data: {\"a\":\n\ndata: \0\u{fffd}\n\n"],
        ),
        Some(Fault::Leak) => Answer::pieces(["x<|fim_", "middle|>y"]),
        Some(Fault::NoSuffix) if seen.json().get("suffix").is_some() => {
            Answer::error(400, "suffix is not supported")
        }
        Some(Fault::NoSuffix) => text,
        Some(Fault::Blind) => Answer::blind(seen),
    };
    answer.after(delay)
}

#[expect(clippy::print_stdout, reason = "this program reports to a person")]
fn report(seen: &model_server::Seen) {
    let took = seen.ended.map(|(at, _)| at.duration_since(seen.arrived));
    println!(
        "connection {} · {:?} · {} {} · {} bytes · {:?} after {:?}",
        seen.connection,
        seen.protocol,
        seen.method,
        seen.path,
        seen.body.len(),
        seen.end(),
        took.unwrap_or_default(),
    );
}
