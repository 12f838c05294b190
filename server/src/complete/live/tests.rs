use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::*;
use crate::complete::generation::wait_until;

fn at(offset: usize, version: i32) -> Place<'static> {
    Place {
        offset,
        line: 0,
        version,
        required: "",
    }
}

fn typed(offset: usize, text: &str) -> [Edit; 1] {
    [Edit {
        start: offset,
        removed: 0,
        inserted: text.into(),
        line: 0,
        line_delta: 0,
    }]
}

fn shown(text: &str, source: Source, confidence: Option<f32>) -> Shown {
    let track = Track::new(0, 0, 1);
    let extent = Extent::Line;
    Shown {
        id: 7,
        text: text.into(),
        source,
        confidence,
        extent,
        track,
        at: Instant::now(),
        confirmed: false,
        accepted: false,
    }
}

/// A stream for offset 0 of version 1 that says what is sent, and tells when it is dropped.
fn stream(owner: u64) -> (Generation, mpsc::UnboundedSender<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let pieces = stream::unfold(receiver, async |mut r| {
        r.recv().await.map(|piece| (Ok(piece), r))
    })
    .boxed();
    let generation = Generation::stream(
        pieces,
        "",
        |_| false,
        Extent::Line,
        Track::new(0, 0, 1),
        owner,
    );
    (generation, sender)
}

/// Adds a stream that has said `text` to a document.
async fn said(live: &mut Live, text: &str) -> mpsc::UnboundedSender<String> {
    let (generation, sender) = stream(1);
    let mut watch = generation.watch();
    if !text.is_empty() {
        sender.send(text.into()).unwrap();
        wait_until(&mut watch, |written| written == text).await;
    }
    live.add(generation);
    sender
}

fn text(found: Found) -> Option<String> {
    match found {
        Found::Text(fitting) => Some(fitting.rest),
        Found::Growing(watch) => Some(format!("… {}", watch.borrow().text)),
        Found::Nothing => None,
    }
}

#[tokio::test]
async fn a_newer_request_stops_the_older_one_and_its_silent_stream() {
    let mut live = Live::default();
    let first = live.begin(1, at(0, 1));
    let stream = said(&mut live, "").await;
    live.edited(&typed(0, "p"), 2, Instant::now());
    assert!(first.is_cancelled(), "its text is gone");
    let second = live.begin(2, at(1, 2));
    stream.closed().await;
    assert!(!second.is_cancelled());
    assert_eq!(text(live.find(at(1, 2))), None);
}

#[tokio::test]
async fn a_stream_that_agrees_with_the_typing_serves_the_next_request() {
    let mut live = Live::default();
    live.begin(1, at(0, 1));
    let stream = said(&mut live, "print").await;
    live.edited(&typed(0, "pr"), 2, Instant::now());
    live.begin(2, at(2, 2));
    assert_eq!(text(live.find(at(2, 2))).as_deref(), Some("… print"));
    assert!(!stream.is_closed());
    live.cancelled(1);
    assert!(!stream.is_closed(), "the older request no longer owns it");
    live.edited(&typed(2, "x"), 3, Instant::now());
    stream.closed().await;
}

#[tokio::test]
async fn the_same_place_shares_a_stream_that_has_said_nothing_yet() {
    let mut live = Live::default();
    live.begin(1, at(0, 1));
    let stream = said(&mut live, "").await;
    live.begin(2, at(0, 1));
    assert_eq!(text(live.find(at(0, 1))).as_deref(), Some("… "));
    live.cancelled(2);
    stream.closed().await;
}

#[tokio::test]
async fn taking_a_request_back_ends_its_stream() {
    for written in ["", "print"] {
        let mut live = Live::default();
        live.begin(1, at(0, 1));
        let stream = said(&mut live, written).await;
        live.cancelled(9);
        assert!(!stream.is_closed(), "another request");
        live.cancelled(1);
        stream.closed().await;
    }
}

#[tokio::test]
async fn what_is_on_screen_is_replaced_only_by_its_extension_or_after_typing() {
    use Source::{Local, Model};
    let cases = [
        // source and confidence on screen, what a model said, typed since → what is next.
        (Local, Some(0.65), "print(x);", "", "print(x);"),
        (Local, Some(0.65), "other", "", "print"),
        (Local, Some(0.65), "p_other", "p", "_other"),
        (Local, Some(0.80), "p_other", "p", "rint"),
        (Model, None, "p_other", "p", "rint"),
        (Model, None, "print(x);", "p", "rint(x);"),
    ];
    for (source, confidence, said, typing, expected) in cases {
        let mut live = Live::default();
        live.show(shown("print", source, confidence));
        live.add(Generation::finished(
            said.into(),
            Model,
            None,
            Extent::Line,
            Track::new(0, 0, 1),
        ));
        let place = if typing.is_empty() {
            at(0, 1)
        } else {
            live.edited(&typed(0, typing), 2, Instant::now());
            at(typing.len(), 2)
        };
        assert_eq!(
            text(live.find(place)).as_deref(),
            Some(expected),
            "{source:?} {confidence:?} {said} {typing}"
        );
    }
}

/// The embedded engine is asked when a model is about to be late; the model may end all the same.
#[tokio::test]
async fn what_a_model_said_is_not_hidden_by_what_the_embedded_engine_said_after_it() {
    let finished = |text: &str, source| {
        let track = Track::new(0, 0, 1);
        Generation::finished(text.into(), source, None, Extent::Line, track)
    };
    let mut live = Live::default();
    live.show(shown("print", Source::Local, Some(0.65)));
    live.add(finished("p_other", Source::Model));
    live.add(finished("print", Source::Local));
    let written = live.written_for(at(0, 1)).map(|fitting| fitting.rest);
    assert_eq!(written.as_deref(), Some("p_other"));
    assert_eq!(text(live.find(at(0, 1))).as_deref(), Some("print"));
    live.edited(&typed(0, "p"), 2, Instant::now());
    assert_eq!(text(live.find(at(1, 2))).as_deref(), Some("_other"));

    // Whole lines of a stream that goes on are there too.
    let mut live = Live::default();
    let _stream = said(&mut live, "one\ntw").await;
    live.add(finished("print", Source::Local));
    let written = live.written_for(at(0, 1)).map(|fitting| fitting.rest);
    assert_eq!(written.as_deref(), Some("one\ntw"));
}

#[test]
fn taking_all_of_it_in_one_edit_is_an_acceptance_and_anything_else_is_not() {
    let ends = |edits: &[&str]| {
        let mut live = Live::default();
        live.show(shown("print(x)", Source::Model, None));
        let mut offset = 0;
        let mut last = "kept".to_owned();
        for (i, edit) in edits.iter().enumerate() {
            let event = live.edited(&typed(offset, edit), 2 + i as i32, Instant::now());
            offset += edit.len();
            last = match event {
                None => "kept".into(),
                Some(Event::Accepted(_)) => "accepted".into(),
                Some(Event::Ended(_)) => "ended".into(),
            };
        }
        (last, live.just_accepted())
    };
    assert_eq!(ends(&["print(x)"]), ("accepted".into(), true));
    assert_eq!(
        ends(&["pri", "nt(x)"]),
        ("accepted".into(), true),
        "the rest of it"
    );
    assert_eq!(ends(&["pri"]), ("kept".into(), false));
    assert_eq!(
        ends(&["print(x", ")"]),
        ("ended".into(), false),
        "typed to the end"
    );
    assert_eq!(ends(&["q"]), ("ended".into(), false));
    assert_eq!(ends(&["print(x)", "y"]), ("kept".into(), false));
}

#[test]
fn a_selected_menu_item_is_extended_or_nothing_is_said() {
    let mut live = Live::default();
    live.add(Generation::finished(
        "println!(x)".into(),
        Source::Model,
        None,
        Extent::Line,
        Track::new(0, 0, 1),
    ));
    let with = |required| Place {
        required,
        ..at(0, 1)
    };
    assert_eq!(
        text(live.find(with("print"))).as_deref(),
        Some("println!(x)")
    );
    assert_eq!(text(live.find(with("panic"))), None);
    assert_eq!(
        text(live.find(with("println!(x)"))),
        None,
        "nothing would be left"
    );
}

#[test]
fn few_finished_texts_are_kept() {
    let mut live = Live::default();
    for i in 0..100 {
        live.add(Generation::finished(
            format!("text {i}"),
            Source::Model,
            None,
            Extent::Line,
            Track::new(i, 0, 1),
        ));
    }
    assert_eq!(text(live.find(at(99, 1))).as_deref(), Some("text 99"));
    assert_eq!(text(live.find(at(99 - KEPT, 1))), None);
}
