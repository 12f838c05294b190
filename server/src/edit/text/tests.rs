use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> Text {
    Text::decode(bytes.to_vec(), Breaks::Lf).unwrap()
}

fn replaced(bytes: &[u8], lines: Range<usize>, new: &[&str]) -> Vec<u8> {
    let new = new.iter().map(|l| NewLine::new(*l)).collect();
    decode(bytes).apply(&[Splice { lines, new }]).unwrap().0
}

#[test]
fn the_encoding_is_told_from_the_bytes() {
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    for (bytes, encoding) in [
        (b"plain".to_vec(), Encoding::Utf8 { bom: false }),
        ("\u{feff}bom".into(), Encoding::Utf8 { bom: true }),
        (utf16("\u{feff}x"), Encoding::Utf16Le { bom: true }),
        (
            utf16("no mark, all ascii"),
            Encoding::Utf16Le { bom: false },
        ),
        (
            b"caf\xe9".to_vec(),
            Encoding::Legacy {
                new_text: LegacyText::Windows1252,
            },
        ),
        (
            b"caf\xe9\ncaf\xc3\xa9".to_vec(),
            Encoding::Legacy {
                new_text: LegacyText::Undecided,
            },
        ),
    ] {
        assert_eq!(decode(&bytes).encoding(), encoding, "{bytes:?}");
    }
    assert_eq!(
        Text::decode(vec![0xFF, 0xFE, 0, 0xD8], Breaks::Lf).unwrap_err(),
        NotText::BrokenUnicode
    );
}

#[test]
fn new_lines_end_as_the_others_do() {
    assert_eq!(replaced(b"a\r\nb\r\n", 1..1, &["x"]), b"a\r\nx\r\nb\r\n");
    assert_eq!(replaced(b"a\nb", 2..2, &["x"]), b"a\nb\nx");
    assert_eq!(replaced(b"a\nb", 1..2, &["x"]), b"a\nx");
    assert_eq!(replaced(b"", 0..0, &["x"]), b"x\n");
}

#[test]
fn what_an_encoding_cannot_say_is_refused() {
    let text = decode(b"caf\xe9\n");
    let splice = |new: &str| Splice {
        lines: 0..0,
        new: vec![NewLine::new(new)],
    };
    assert_eq!(text.apply(&[splice("é")]).unwrap().0, b"\xe9\ncaf\xe9\n");
    assert!(text.apply(&[splice("日本")]).is_err());
}

proptest! {
    #[test]
    fn every_byte_outside_the_splices_stays(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), Just(0xE9), any::<u8>()], 0..80),
        at in 0_usize..20,
        n_removed in 0_usize..4,
        new in prop::collection::vec("[a-c]{0,3}", 0..4),
    ) {
        let Ok(text) = Text::decode(bytes.clone(), Breaks::Lf) else { return Ok(()) };
        let start = at.min(text.n_lines());
        let end = (start + n_removed).min(text.n_lines());
        let before = text.raw(0..start).to_vec();
        let after = text.raw(end..text.n_lines()).to_vec();
        let lines = new.iter().map(NewLine::new).collect();
        let (out, changes) = text.apply(&[Splice { lines: start..end, new: lines }]).unwrap();
        prop_assert!(out.starts_with(&[text.bom(), &before].concat()));
        prop_assert!(out.ends_with(&after));
        prop_assert!(changes.len() <= 1);
    }

    #[test]
    fn no_splice_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = Text::decode(bytes.clone(), Breaks::LfOrCr) {
            prop_assert_eq!(text.apply(&[]).unwrap().0, bytes.clone());
            prop_assert_eq!([text.bom(), &text.raw_lines().concat()].concat(), bytes);
        }
    }
}
