//! Keys: 128 random bits, compared in constant time, never shown by accident.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// A secret that a caller shows.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    /// A new one, of the form that E2B's clients insist on.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub fn generate() -> io::Result<Self> {
        random_hex().map(|hex| Self(format!("e2b_{hex}")))
    }

    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `shown` is it, in a time that does not tell how much of it was right.
    pub fn is(&self, shown: &str) -> bool {
        let (own, shown) = (self.0.as_bytes(), shown.as_bytes());
        let differing = own.iter().zip(shown).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(differing) == 0 && own.len() == shown.len()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// 128 random bits.
pub(super) fn random_hex() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    let n = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if n != bytes.len() {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
