use super::*;
use proptest::prelude::*;

/// Renders every frame of `bytes` on a line: `request M`, `response ID`, `fault CODE`.
fn frames(bytes: &[u8]) -> Vec<String> {
    let mut input = io::BufReader::with_capacity(7, bytes);
    let mut out = Vec::new();
    while let Some(frame) = read_frame(&mut input).unwrap() {
        out.push(match frame {
            Frame::Request(r) => format!("request {}", r.method()),
            Frame::Response(r) => format!("response {}", r.id()),
            Frame::Fault(r) => format!("fault {} {}", r.id(), r.error().unwrap().code.code()),
        });
    }
    out
}

fn framed(body: &str) -> String {
    format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[test]
fn a_broken_frame_is_reported_and_the_next_one_is_read() {
    let cases: &[(&str, &[&str])] = &[
        (&framed("{"), &["fault null -32700", "request ping"]),
        (&framed("[]"), &["fault null -32600", "request ping"]),
        (&framed("7"), &["fault null -32600", "request ping"]),
        (
            &framed(r#"{"id":7,"method":"x"}"#),
            &["fault 7 -32600", "request ping"],
        ),
        (
            &framed(r#"{"jsonrpc":"1.0","id":"a","method":"x"}"#),
            &["fault \"a\" -32600", "request ping"],
        ),
        (
            &framed(r#"{"jsonrpc":"2.0","id":9,"method":5}"#),
            &["fault 9 -32600", "request ping"],
        ),
        (
            "Content-Length: x\r\n\r\n",
            &["fault null -32700", "request ping"],
        ),
        (
            "Content-Type: a\r\nContent-Length: 2\r\n\r\n{}",
            &["fault null -32600", "request ping"],
        ),
        ("hello from a stray print\n", &["request ping"]),
        ("\r\n\r\n", &["request ping"]),
        (
            &framed(r#"{"jsonrpc":"2.0","id":3,"result":null}"#),
            &["response 3", "request ping"],
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            frames(format!("{bytes}{}", framed(PING)).as_bytes()),
            *expected,
            "{bytes}"
        );
    }
}

#[test]
fn header_names_and_line_ends_are_read_loosely() {
    for head in ["content-length:", "CONTENT-LENGTH: ", "Content-Length:  "] {
        for eol in ["\r\n", "\n"] {
            let bytes = format!("{head}{}{eol}{eol}{PING}", PING.len());
            assert_eq!(frames(bytes.as_bytes()), ["request ping"], "{bytes:?}");
        }
    }
}

#[test]
fn a_cut_stream_ends_quietly() {
    for cut in 0..framed(PING).len() {
        assert!(
            frames(&framed(PING).as_bytes()[..cut]).is_empty(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_body_over_the_limit_is_skipped() {
    let head = format!("Content-Length: {}\r\n\r\n", MAX_BODY + 1);
    let body = io::repeat(b' ').take(MAX_BODY as u64 + 1);
    let next = framed(PING);
    let mut input = io::BufReader::new(head.as_bytes().chain(body).chain(next.as_bytes()));
    assert!(matches!(
        read_frame(&mut input).unwrap(),
        Some(Frame::Fault(_))
    ));
    assert!(matches!(
        read_frame(&mut input).unwrap(),
        Some(Frame::Request(_))
    ));
}

#[test]
fn lone_surrogates_become_the_replacement_character_of_the_same_width() {
    let cases = [
        (r"a\ud83db", "a\u{fffd}b"),
        (r"a\ude00b", "a\u{fffd}b"),
        (r"\ud83d\ude00", "\u{1f600}"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\\ud83d", r"\ud83d"),
        (r"\ud83d\n", "\u{fffd}\n"),
    ];
    for (escaped, expected) in cases {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{escaped}"]}}"#);
        let Frame::Request(request) = parse(body.as_bytes()) else {
            panic!("{escaped}")
        };
        assert_eq!(request.params().unwrap()[0], expected, "{escaped}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, PING.as_bytes()).unwrap();
    write_frame(&mut bytes, PING.as_bytes()).unwrap();
    assert_eq!(frames(&bytes), ["request ping", "request ping"]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        frames(&noise);
    }

    #[test]
    fn noise_without_a_header_never_swallows_the_next_frame(noise in "[ -~\n]{0,200}") {
        prop_assume!(find_ignore_case(&noise, "content-length:").is_none());
        let seen = frames(format!("{noise}\n{}", framed(PING)).as_bytes());
        prop_assert_eq!(seen.last().map(String::as_str), Some("request ping"));
    }

    #[test]
    fn damaged_messages_are_survived(at in 0usize..200, byte in any::<u8>()) {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"textDocument/didChange","params":{"a":"\ud83d\ude00"}}"#;
        let mut bytes = framed(body).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.extend_from_slice(framed(PING).as_bytes());
        frames(&bytes);
    }
}
