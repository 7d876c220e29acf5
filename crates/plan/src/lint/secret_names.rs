//! Whether a name sounds like that of a secret.

const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// A public key, the path of a file, or the version of a module is none.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether one of the words of `name`, in any case and divided by `_`, is that of a secret, and none is harmless.
pub(super) fn is_secret(name: &str) -> bool {
    let has_one_of = |words: &[&str]| {
        name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    has_one_of(&SECRET) && !has_one_of(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn whole_words_count() {
        for name in ["TOKEN", "my_Token", "api_key", "_KEY_", "SECRET_X", "auth"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["", "tokens", "monkey", "PUBLIC_KEY", "password_file", "AUTH_MODULE_VERSION"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
