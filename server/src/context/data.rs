//! Text of others, between marks that who wrote it cannot know: models are told that it is data.

/// The marks of a session.
pub fn mark(session: &str) -> String {
    let hash = blake3::derive_key("pairwright data mark", session.as_bytes());
    format!("data-{}", &blake3::Hash::from_bytes(hash).to_hex()[..12])
}

/// Puts text between marks.
pub fn between(mark: &str, text: &str) -> String {
    let text = text.trim_end_matches('\n');
    match text.contains(mark) {
        true => format!("<{mark}>\n{}\n</{mark}>", text.replace(mark, "data")),
        false => format!("<{mark}>\n{text}\n</{mark}>"),
    }
}
