//! The token that opens the API, in a file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::{constant_time, digest};

/// The hash of a token, which is as good for comparing and tells nothing in a core dump.
pub(in crate::cli) struct Token(digest::Digest);

/// Bytes of the shortest token that nobody guesses.
const SHORTEST: usize = 16;
/// Bytes of the longest that fits into the head of a request.
const LONGEST: usize = 4096;

impl Token {
    /// Reads the file: one line of printable ASCII characters.
    pub(in crate::cli) fn read(path: &Path) -> Result<Token, String> {
        let error = |reason: String| format!("{}: {reason}", path.display());
        let metadata = std::fs::metadata(path).map_err(|fault| error(fault.to_string()))?;
        if !metadata.is_file() {
            return Err(error("it is no file".to_owned()));
        }
        if metadata.len() > 2 * LONGEST as u64 {
            return Err(error(format!("a token has at most {LONGEST} bytes")));
        }
        let text = std::fs::read(path).map_err(|fault| error(fault.to_string()))?;
        let token = Token::parse(&text).map_err(error)?;
        if metadata.permissions().mode() & 0o007 != 0 {
            tracing::warn!(file = %path.display(), "every user of this machine may read the token (chmod o-rwx)");
        }
        Ok(token)
    }

    fn parse(text: &[u8]) -> Result<Token, String> {
        let token = text.trim_ascii();
        match token.len() {
            0..SHORTEST => Err(format!("a token has at least {SHORTEST} bytes")),
            SHORTEST..=LONGEST if token.iter().all(u8::is_ascii_graphic) => Ok(Token(hash(token))),
            SHORTEST..=LONGEST => Err("a token is one line of printable ASCII characters without blanks".to_owned()),
            _ => Err(format!("a token has at most {LONGEST} bytes")),
        }
    }

    /// Whether this is the token. How long that takes says nothing about it.
    pub(super) fn is(&self, offered: &[u8]) -> bool {
        let offered = hash(offered);
        constant_time::verify_slices_are_equal(self.0.as_ref(), offered.as_ref()).is_ok()
    }
}

fn hash(token: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_long_word() {
        let token = Token::parse(b" 0123456789abcdef\n").expect("is one");
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"0123456789abcdeF"] {
            assert!(!token.is(other));
        }
        for bad in [
            "",
            "\n",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdef\nx",
            "0123456789abcdé",
        ] {
            assert!(Token::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Token::parse(&[b'a'; LONGEST + 1]).is_err());
    }
}
