//! What a directory of users gives.

use crate::secret::Secret;

/// An access token and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub secret: Secret,
    /// When it ends, in seconds since 1970.
    pub until: u64,
}

impl Token {
    pub(crate) fn new(text: impl Into<String>, until: u64) -> Self {
        Self { secret: Secret::new(text), until }
    }
}
