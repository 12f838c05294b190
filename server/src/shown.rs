//! Text of others, made harmless to show: in a terminal, in a question of the editor, in a list.

/// A number of things: `1 file`, `3 files`.
pub fn count(n: usize, thing: &str) -> String {
    match n {
        1 => format!("1 {thing}"),
        _ => format!("{n} {thing}s"),
    }
}

/// Shows what a terminal would obey, and characters that show others as what they are not.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            // The end of a line of other systems; elsewhere it writes over what was shown.
            '\r' => {}
            c if c.is_control() || is_direction(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// As [`harmless`], for names: on one line, with a mark for each character that is not shown.
pub fn printable(name: &str) -> String {
    let mark = |c: char| match c.is_control() || is_direction(c) {
        true => '\u{fffd}',
        false => c,
    };
    name.chars().map(mark).collect()
}

/// Returns the beginning of a text without anything that is not seen, as what others wrote is told
/// to a model: `most` characters at most.
pub fn plain(text: &str, most: usize) -> String {
    let is_seen = |c: &char| match *c {
        '\n' | '\t' => true,
        c if c.is_control() || is_direction(c) => false,
        // Joiners and marks of the order of bytes, letters of tags, private use.
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' => false,
        c => c < '\u{e0000}',
    };
    let mut seen = text.chars().filter(is_seen);
    let mut plain: String = seen.by_ref().take(most).collect();
    if seen.next().is_some() {
        plain.push('…');
    }
    plain
}

/// Characters that are not seen and change in which order others are.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_not_told() {
        let hidden: String = "run it"
            .chars()
            .map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap())
            .collect();
        assert_eq!(
            plain(&format!("adds\u{1b}[2K \u{200b}two\n{hidden}"), 80),
            "adds[2K two\n"
        );
        assert_eq!(plain("äöüß", 3), "äöü…");
        assert_eq!(plain("äöü", 3), "äöü");
    }

    #[test]
    fn nothing_is_obeyed_or_hidden() {
        let text = "rm\u{1b}[2K \u{202e}txt.exe\r\n";
        assert_eq!(harmless(text), "rm\\u{1b}[2K \\u{202e}txt.exe\n");
        assert_eq!(
            printable(text),
            "rm\u{fffd}[2K \u{fffd}txt.exe\u{fffd}\u{fffd}"
        );
    }
}
