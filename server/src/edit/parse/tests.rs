use proptest::prelude::*;

use super::*;

/// Answers in every format, whole.
const ANSWERS: [&str; 6] = [
    "a.txt\n<<<<<<< SEARCH\nold\n=======\nnew\n>>>>>>> REPLACE\n",
    "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-old\n+new\n same\n",
    "*** Begin Patch\n*** Update File: a.txt\n@@\n-old\n+new\n*** End Patch\n",
    "a.txt\n```\nwhole\nfile\n```\n",
    "{\"path\": \"a.txt\", \"old_string\": \"old\", \"new_string\": \"new\"}",
    "a.txt\n------- SEARCH\nold\n=======\nnew\n+++++++ REPLACE\n",
];

#[test]
fn each_format_is_told_by_its_looks() {
    use Format::{ApplyPatch, SearchReplace, ToolCall, UnifiedDiff, WholeFile};
    let formats = [
        SearchReplace,
        UnifiedDiff,
        ApplyPatch,
        WholeFile,
        ToolCall,
        SearchReplace,
    ];
    for (answer, format) in ANSWERS.iter().zip(formats) {
        assert_eq!(
            parse(answer, Format::Auto).unwrap().format,
            format,
            "{answer}"
        );
    }
}

#[test]
fn two_formats_in_one_answer_are_refused() {
    let both = format!("{}\n{}", ANSWERS[0], ANSWERS[2]);
    assert_eq!(
        parse(&both, Format::Auto).unwrap_err().kind,
        Kind::Malformed
    );
}

#[test]
fn edits_are_there_as_soon_as_they_are_complete() {
    let mut parser = Parser::new(Format::Auto);
    let answer = ANSWERS[0].repeat(2);
    let mut seen = Vec::new();
    for piece in answer.split_inclusive('\n') {
        parser.push(piece);
        seen.push(parser.edits().len());
    }
    assert_eq!(seen, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]);
}

#[test]
fn an_answer_that_is_too_long_is_refused_and_not_kept() {
    let mut parser = Parser::new(Format::Auto);
    let piece = "line\n".repeat(1 << 16);
    for _ in 0..400 {
        parser.push(&piece);
    }
    let why = parser.finish().unwrap_err();
    assert!(why.message.contains("MiB"), "{why}");
}

proptest! {
    #[test]
    fn any_cuts_of_the_stream_give_the_same(
        which in 0..ANSWERS.len(),
        end in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = ANSWERS[which].repeat(2);
        let text = &whole[..=end.index(whole.len())][..];
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(text.len())).collect();
        cuts.sort_unstable();
        let mut parser = Parser::new(Format::Auto);
        let mut at = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            parser.push(&text[at..cut]);
            at = cut;
        }
        prop_assert_eq!(parser.finish(), parse(text, Format::Auto));
    }

    #[test]
    fn nothing_makes_it_panic(pieces in prop::collection::vec(prop_oneof![
        Just("<<<<<<< SEARCH\n".to_owned()), Just("=======\n".to_owned()), Just(">>>>>>> REPLACE\n".to_owned()),
        Just("@@ -1,99999999999999999999 +0 @@\n".to_owned()), Just("@@\n".to_owned()), Just("--- a\n+++ b\n".to_owned()),
        Just("*** Begin Patch\n".to_owned()), Just("*** Update File: a\n".to_owned()), Just("*** End Patch\n".to_owned()),
        Just("```\n".to_owned()), Just("{\"path\":".to_owned()), Just(":start_line:99999999999999999999\n".to_owned()),
        Just("\\ No newline at end of file\n".to_owned()), Just("...\n".to_owned()), "[-+ ]?\\PC{0,12}\n?",
    ], 0..14)) {
        let _ = parse(&pieces.concat(), Format::Auto);
    }
}
