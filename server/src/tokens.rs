//! The tokens that allow publishing: their file, and a comparison that does not tell how much of a guess was
//! right.

use std::hint::black_box;
use std::path::Path;

use crate::config::{ConfigError, reason_of};

/// Longest token, in bytes: it has to fit a request head with room to spare.
const TOKEN_BYTES_MAX: usize = 1_024;
/// Most tokens of a file; each is compared with each guess.
const TOKENS_MAX: usize = 1_000;

/// The tokens of a file. Does not show them.
pub(crate) struct Tokens(Vec<Box<[u8]>>);

impl Tokens {
    /// Reads the file at `path`: a token a line, blank lines and lines that begin with `#` left out.
    ///
    /// # Errors
    /// If it cannot be read, has no token, or a line is none.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| format!("cannot read {path:?}: {}", reason_of(&e)));
        text.and_then(|text| Self::parse(&text).map_err(|reason| format!("{path:?}: {reason}")))
            .map_err(|reason| ConfigError::of_key("publish_token_file", reason))
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (line, token) in (1..).zip(text.lines().map(str::trim)) {
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            // RFC 6750 §2.1 has fewer characters still; a blank would never come back out of the header
            // field.
            if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(format!(
                    "line {line} is no token; that is 1 to {TOKEN_BYTES_MAX} visible ASCII characters"
                ));
            }
            tokens.push(token.as_bytes().into());
        }
        match tokens.len() {
            0 => Err("has no token".into()),
            1..=TOKENS_MAX => Ok(Self(tokens)),
            count => Err(format!("has {count} tokens; at most {TOKENS_MAX} are allowed")),
        }
    }

    /// Whether `guess` is one of them. Takes as long for a guess that is nearly right as for one that is all
    /// wrong; only the lengths of the tokens can show in the time.
    pub(crate) fn contain(&self, guess: &str) -> bool {
        // Every token is compared, also after one was found equal.
        self.0.iter().fold(false, |found, token| found | is_equal(token, guess.as_bytes()))
    }
}

/// Compares without a branch on the bytes.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // `black_box` keeps the compiler from ending the loop at the first difference.
    a.iter().zip(b).fold(0, |difference, (x, y)| black_box(difference | (x ^ y))) == 0
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_token_a_line_with_comments_and_blanks() {
        let tokens = Tokens::parse("# the newsroom\nfirst\n\n  second  \r\n#first-but-not\n").unwrap();
        assert!(tokens.contain("first") && tokens.contain("second"));
        for guess in ["", "firs", "firsT", "first ", "#first-but-not", "the", "secondsecond"] {
            assert!(!tokens.contain(guess), "{guess:?}");
        }
    }

    #[test]
    fn a_file_without_a_token_or_with_a_line_that_is_none_is_refused() {
        assert_eq!(Tokens::parse("# nothing\n\n").unwrap_err(), "has no token");
        assert!(Tokens::parse("good\ntwo words\n").unwrap_err().starts_with("line 2 is no token"));
        assert!(Tokens::parse("é").unwrap_err().starts_with("line 1 is no token"));
        assert!(Tokens::parse(&"x".repeat(1_025)).is_err());
        assert!(Tokens::parse(&"x\n".repeat(1_001)).is_err());
        let fault = Tokens::read(Path::new("/nowhere/tokens")).unwrap_err().to_string();
        assert_eq!(
            fault,
            "config: publish_token_file: cannot read \"/nowhere/tokens\": no such file or directory"
        );
    }

    #[test]
    fn tokens_are_not_shown() {
        assert_eq!(format!("{:?}", Tokens::parse("secret").unwrap()), "Tokens(1)");
    }
}
