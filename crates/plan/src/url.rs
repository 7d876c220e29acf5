//! Addresses, taken apart as Go's `net/url` does it.

/// What an address is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    /// In lower case; empty where there is none.
    pub(crate) scheme: String,
    /// User, host and port, as written.
    pub(crate) authority: &'a str,
    /// The path, decoded.
    pub(crate) path: String,
    /// The path as it stands in an address, encoded anew where it was not valid.
    pub(crate) encoded_path: String,
    /// What is between `?` and `#`, as written.
    pub(crate) query: &'a str,
    /// What is behind the first `#`, decoded.
    pub(crate) fragment: String,
}

impl<'a> Url<'a> {
    /// Reads an address; `None` for what Go refuses.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        if rest.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (scheme, rest) = match rest.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => (String::new(), rest),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        if !is_authority(authority) {
            return None;
        }
        let decoded = decode(path, false)?;
        let encoded_path =
            if path.bytes().all(is_path_byte) { path.to_owned() } else { encode(&decoded) };
        let fragment = decode(fragment, false)?;
        Some(Self { scheme, authority, path: decoded, encoded_path, query, fragment })
    }

    /// The address up to its path.
    pub(crate) fn without_query(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.encoded_path)
    }

    /// The last part of the path, `None` where there is none.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.path.trim_end_matches('/').rsplit('/').next().filter(|name| !matches!(*name, "" | "."))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `[user[:password]@]host[:port]`
fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let is_user_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !user.bytes().all(is_user_byte) {
        return false;
    }
    // The colons in `[::1]` are the address's own.
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => return false,
        },
        None => host.rsplit_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    let is_host_byte = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || !byte.is_ascii()
            || b"-_.~!$&'()*+,;=:[]<>\"".contains(&byte)
    };
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        && name.bytes().all(is_host_byte)
}

/// Whether the byte may stand in a path as it is.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~/%!$&'()*+,;=:@[]".contains(&byte)
}

fn encode(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~/$&+,;=:@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Resolves `%41`, and `+` to a blank in a query. `None` where two hexadecimal digits are missing.
///
/// Bytes that are no UTF-8 afterwards are replaced: they could not stand in a Dockerfile either.
fn decode(text: &str, is_query: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The keys and values of a query, in order; in place of what cannot be decoded there is an error.
pub(crate) fn query(text: &str) -> impl Iterator<Item = Result<(String, String), NotDecodable>> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = if pair.contains(';') {
            None
        } else {
            decode(key, true).and_then(|key| Some((key, decode(value, true)?)))
        };
        decoded.ok_or(NotDecodable)
    })
}

/// A part of a query that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotDecodable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_parts() {
        let url = Url::parse("HTTPS://u:p@h.com:80/a%20b/c?x=1?#f%41#").unwrap();
        let expected = Url {
            scheme: "https".into(),
            authority: "u:p@h.com:80",
            path: "/a b/c".into(),
            encoded_path: "/a%20b/c".into(),
            query: "x=1?",
            fragment: "fA#".into(),
        };
        assert_eq!(url, expected);
        assert_eq!(url.without_query(), "https://u:p@h.com:80/a%20b/c");
        let url = Url::parse("git://h/é \"").unwrap();
        assert_eq!(url.without_query(), "git://h/%C3%A9%20%22");
    }

    #[test]
    fn the_file_name_is_the_last_part_of_the_path() {
        for (text, expected) in [
            ("http://h/a/b.tar?x#y", Some("b.tar")),
            ("http://h/a/b/", Some("b")),
            ("http://h/a%2Fb%20c", Some("b c")),
            ("http://h", None),
            ("http://h//", None),
            ("http://h/.", None),
        ] {
            assert_eq!(Url::parse(text).unwrap().file_name(), expected, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_none() {
        for text in [
            "http://h/%zz",
            "http://h/%1",
            "http://h/#%",
            "http://h:x/",
            "http://h:80:x/",
            "http://a b/",
            "http://h\u{1}/",
            "http://u ser@h/",
            "http://[::1/",
            "http://[::1]x/",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        for text in ["http://[::1]:80/", "http://[::1]/", "http://h:/", "http:///x"] {
            assert!(Url::parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_query_is_a_list_of_pairs() {
        let pairs: Vec<_> = query("a=1&&b&c=%20+=&d=%&e;f").collect();
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        let expected =
            [pair("a", "1"), pair("b", ""), pair("c", "  ="), Err(NotDecodable), Err(NotDecodable)];
        assert_eq!(pairs, expected);
    }
}
