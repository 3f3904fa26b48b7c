//! Tokens: one line of text that carries the grid CA's public key and a secret.
//!
//! Whoever holds it can tell the true server from any other without a certificate store, and the server can tell
//! the holder. The server keeps only the secret's hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// Length of a token's secret, in bytes.
pub const SECRET_LEN: usize = 24;

const JOIN_PREFIX: &str = "dcgrid-join-";
const USER_PREFIX: &str = "dcgrid-user-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Registers a client.
    Join,
    /// Logs a user in.
    User,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    /// Ed25519 public key of the grid's CA.
    pub ca_key: [u8; 32],
    pub secret: [u8; SECRET_LEN],
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("this is not a token: one begins with '{JOIN_PREFIX}' or '{USER_PREFIX}'")]
    Prefix,
    #[error("this {expected} token is damaged: copy it again, whole")]
    Damaged { expected: TokenKind },
    #[error("this is a {found} token where a {expected} token is needed")]
    Kind { found: TokenKind, expected: TokenKind },
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenKind::Join => "join",
            TokenKind::User => "user",
        })
    }
}

impl Token {
    /// The secret as it is sent to the server.
    pub fn secret_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.secret)
    }

    /// Reads a token that must be of one kind.
    ///
    /// # Errors
    /// A text that is no token, is damaged, or is of the other kind.
    pub fn parse(text: &str, expected: TokenKind) -> Result<Self, TokenError> {
        let token: Token = text.parse()?;
        if token.kind == expected { Ok(token) } else { Err(TokenError::Kind { found: token.kind, expected }) }
    }
}

/// The secret of a token as bytes, from the text that was sent.
pub fn decode_secret(text: &str) -> Option<[u8; SECRET_LEN]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            TokenKind::Join => JOIN_PREFIX,
            TokenKind::User => USER_PREFIX,
        };
        write!(f, "{prefix}{}", URL_SAFE_NO_PAD.encode([&self.ca_key[..], &self.secret].concat()))
    }
}

impl fmt::Debug for Token {
    /// Without the secret: tokens never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token", self.kind)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (kind, body) = None
            .or_else(|| Some((TokenKind::Join, text.strip_prefix(JOIN_PREFIX)?)))
            .or_else(|| Some((TokenKind::User, text.strip_prefix(USER_PREFIX)?)))
            .ok_or(TokenError::Prefix)?;
        let damaged = || TokenError::Damaged { expected: kind };
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?;
        let (ca_key, secret) = bytes.split_at_checked(32).ok_or_else(damaged)?;
        Ok(Token {
            kind,
            ca_key: ca_key.try_into().map_err(|_| damaged())?,
            secret: secret.try_into().map_err(|_| damaged())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(kind: TokenKind) -> Token {
        Token { kind, ca_key: [1; 32], secret: [2; SECRET_LEN] }
    }

    #[test]
    fn a_token_reads_back_as_it_prints() {
        for kind in [TokenKind::Join, TokenKind::User] {
            assert_eq!(token(kind).to_string().parse(), Ok(token(kind)));
        }
    }

    #[test]
    fn a_wrong_token_is_told_apart_from_a_damaged_one() {
        let join = token(TokenKind::Join).to_string();
        let (user, expected) = (TokenKind::User, TokenKind::Join);
        assert_eq!(Token::parse(&join, user), Err(TokenError::Kind { found: expected, expected: user }));
        assert_eq!(join[..join.len() - 3].parse::<Token>(), Err(TokenError::Damaged { expected }));
        assert_eq!("hello".parse::<Token>(), Err(TokenError::Prefix));
    }

    #[test]
    fn a_token_never_shows_its_secret_to_a_log() {
        assert_eq!(format!("{:?}", token(TokenKind::Join)), "join token");
    }
}
