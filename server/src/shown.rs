//! Text of others, made harmless to show: in a terminal, in a question of the editor, in a list.

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

/// Characters that are not seen and change in which order others are.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
