//! What looks like a secret: files never quoted nor learnt from, words never suggested.
//!
//! Holds: one list for every reader of the user's text, so that a file kept from the model is
//! kept from the embedded engine too. Rules read names and the text given; nothing is opened here.
//! Not here: what a reader does about it, secrets among the server's own settings (`config`).

mod redact;

pub use redact::redact;

/// Whole names, in lower case.
const NAMES: &[&str] = &[
    "_netrc",
    ".envrc",
    ".git-credentials",
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    "credentials",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kubeconfig",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "service-account.json",
];

const ENDINGS: &[&str] = &[
    ".asc",
    ".gpg",
    ".jks",
    ".kdbx",
    ".key",
    ".keystore",
    ".ovpn",
    ".p12",
    ".pem",
    ".pfx",
    ".ppk",
    ".tfstate",
    ".tfvars",
];

/// Endings of files that show what an environment needs, without its values.
const SAMPLES: &[&str] = &[".dist", ".example", ".sample", ".template"];

/// Beginnings of keys that well-known services hand out.
const KEY_STARTS: &[&str] = &[
    "AIza",
    "AKIA",
    "ASIA",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat",
    "rk_live_",
    "sk_live_",
    "xoxb",
    "xoxp",
];

/// Returns whether a file of this name holds keys, passwords or other credentials: `.env`,
/// `id_rsa`, `server.pem`. Case does not matter.
pub fn is_file_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_env = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
    is_env && !SAMPLES.iter().any(|end| name.ends_with(end))
        || NAMES.contains(&name.as_str())
        || ENDINGS.iter().any(|end| name.ends_with(end))
}

/// Returns whether a text holds a private key.
pub fn is_key_file(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// Returns whether a run of word characters looks like a key or token: long, and letters and
/// digits taking turns as in no name; or as a well-known service writes its keys.
pub fn is_word(word: &str) -> bool {
    const SHORTEST: usize = 20;
    const TURNS: usize = 4;
    if word.len() < SHORTEST {
        return false;
    }
    let is_digit: Vec<bool> = word
        .bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|b| b.is_ascii_digit())
        .collect();
    let n_turns = is_digit
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    let is_known = KEY_STARTS.iter().any(|start| word.starts_with(start));
    is_known && n_turns > 0 || !word.contains('_') && n_turns >= TURNS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_their_name() {
        for name in [
            ".env",
            ".env.local",
            ".ENVRC",
            "prod.env",
            "ID_RSA",
            "server.pem",
            "terraform.tfvars",
            "credentials",
        ] {
            assert!(is_file_name(name), "{name}");
        }
        for name in [
            ".env.example",
            "environment.rs",
            "credentials.rs",
            "keys.py",
            "secrets.go",
            "",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
    }

    #[test]
    fn words_are_told_by_their_letters() {
        for word in [
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "AKIAIOSFODNN7EXAMPLE",
            "9f86d081884c7d659a2feaa0c55ad015",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        ] {
            assert!(is_word(word), "{word}");
        }
        for word in [
            "parse_iso8601_date_time_with_millis",
            "parseISO8601DateTimeWithMillis",
            "AbstractSingletonProxyFactoryBean",
            "9f86d08",
            "1000000000000000000000",
        ] {
            assert!(!is_word(word), "{word}");
        }
    }
}
