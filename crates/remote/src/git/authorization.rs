//! Who we are to a server.

use std::fmt;

use super::GitErrorKind;
use super::address::basic;

/// The value of an `Authorization` header. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    /// A token, as the secret `GIT_AUTH_TOKEN` holds it.
    ///
    /// # Errors
    ///
    /// Fails if no header may hold it; the error does not repeat it.
    pub fn token(token: &str) -> Result<Self, GitErrorKind> {
        Self::basic("x-access-token", token.trim_end_matches(['\r', '\n']))
    }

    /// A whole value, as the secret `GIT_AUTH_HEADER` holds it.
    ///
    /// # Errors
    ///
    /// Fails if no header may hold it; the error does not repeat it.
    pub fn header(value: &str) -> Result<Self, GitErrorKind> {
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(GitErrorKind::Authorization);
        }
        Ok(Self(value.to_owned()))
    }

    /// A user name and a password.
    ///
    /// # Errors
    ///
    /// Fails if no header may hold it; the error does not repeat it.
    pub fn basic(user: &str, password: &str) -> Result<Self, GitErrorKind> {
        Self::header(&basic(user, password))
    }

    /// The text, for the one place that puts it into a request.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_git_would_send_and_is_never_printed() {
        let token = Authorization::token("s3cret\n").expect("a token");
        assert_eq!(token.expose(), "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0");
        assert_eq!(format!("{token:?}"), "Authorization(…)");
        let header = Authorization::header("Bearer s3cret").expect("a header");
        assert_eq!(header.expose(), "Bearer s3cret");
    }

    #[test]
    fn two_headers_in_one_are_refused_and_not_repeated() {
        let error = Authorization::header("Bearer s3cret\nX: y").expect_err("two lines");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
