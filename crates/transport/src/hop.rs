//! The rules for one hop of a request: whom it may be sent to, and with what.

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, LOCATION, PROXY_AUTHORIZATION};
use reqwest::{Method, StatusCode, Url};

use crate::address::is_public;
use crate::allowed::AllowedHost;
use crate::request::ShownUrl;

/// How often a server may send us on.
pub(crate) const MAX_REDIRECTS: usize = 10;

/// Which addresses may be dialled for a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dial {
    /// The user named the host.
    Any,
    /// A server named it.
    PublicOnly,
}

/// Why a hop is not made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HopError {
    #[error("`{scheme}` is not a protocol that is spoken here")]
    Scheme { scheme: String },
    #[error("the server names `{url}`, which would give up the encryption of `https`")]
    Downgrade { url: String },
    #[error("the server names an address on `{host}` with a user name in it")]
    UserInfo { host: String },
    #[error("the server names `{host}`, which is not a public address")]
    NotPublic { host: String },
    #[error("the server names `{host}`, which is our proxy")]
    IsProxy { host: String },
    #[error("the server redirects to something that is not a URL")]
    BadLocation,
    #[error("the server redirects a {method} with status {status}, which would lose its body")]
    LosesBody { method: Method, status: u16 },
    #[error("the server redirects more than {MAX_REDIRECTS} times")]
    TooMany,
}

/// Decides whether a request may be sent to `url`, given the URL the user `chosen`.
///
/// Names are judged later, when they are resolved: see [`Dial::PublicOnly`]. Literal addresses
/// never reach the resolver and are judged here.
pub(crate) fn vet(
    url: &Url,
    chosen: &Url,
    is_proxy: bool,
    allowed: &[AllowedHost],
) -> Result<Dial, HopError> {
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err(HopError::Scheme { scheme: url.scheme().to_owned() });
    }
    if url == chosen {
        return Ok(Dial::Any);
    }
    if chosen.scheme() == "https" && url.scheme() == "http" {
        return Err(HopError::Downgrade { url: ShownUrl::of(url).to_string() });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(HopError::UserInfo { host: host.to_owned() });
    }
    if same_host(url, chosen) {
        return Ok(Dial::Any);
    }
    if is_proxy {
        return Err(HopError::IsProxy { host: host.to_owned() });
    }
    if allowed.iter().any(|allowed| allowed.covers(url)) {
        return Ok(Dial::Any);
    }
    match literal_address(host) {
        Some(address) if !is_public(address) => Err(HopError::NotPublic { host: host.to_owned() }),
        _ => Ok(Dial::PublicOnly),
    }
}

/// The address that `host` spells out, if it is no name. `Url` has already turned decimal and
/// octal spellings into dotted ones.
pub(crate) fn literal_address(host: &str) -> Option<std::net::IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether the two are on the same port of the same host.
pub(crate) fn same_server(a: &Url, b: &Url) -> bool {
    same_host(a, b) && a.port_or_known_default() == b.port_or_known_default()
}

/// `Url` has lower-cased both hosts; a final dot only says that a name is complete.
fn same_host(a: &Url, b: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_owned());
    host(a).is_some() && host(a) == host(b)
}

/// Where a response sends the request next, or `None` if it is the answer.
pub(crate) fn next_hop(
    method: &Method,
    has_body: bool,
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Result<Url, HopError>> {
    match status.as_u16() {
        // A browser turns these into GET; for an upload that would be a silent loss.
        301..=303 if has_body || !method.is_safe() => {
            Some(Err(HopError::LosesBody { method: method.clone(), status: status.as_u16() }))
        }
        301..=303 | 307 | 308 => {
            let location = headers.get(LOCATION)?;
            let url = location.to_str().ok().and_then(|location| from.join(location).ok());
            Some(url.ok_or(HopError::BadLocation))
        }
        _ => None,
    }
}

/// Takes away what only the previous origin may see.
pub(crate) fn keep_headers_for(headers: &mut HeaderMap, from: &Url, to: &Url) {
    if from.origin() != to.origin() {
        headers.remove(AUTHORIZATION);
        headers.remove(COOKIE);
        headers.remove(PROXY_AUTHORIZATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("the table holds URLs")
    }

    #[track_caller]
    fn check(chosen: &str, target: &str, expected: &str) {
        let actual = match vet(&url(target), &url(chosen), false, &[]) {
            Ok(dial) => format!("{dial:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{target} named by {chosen}");
    }

    #[test]
    fn the_users_own_host_may_be_anywhere() {
        check("http://10.0.0.1:5000/v2/", "http://10.0.0.1:5000/v2/", "Any");
        check("http://10.0.0.1:5000/v2/", "http://10.0.0.1:5001/token", "Any");
        check("https://r.example/v2/", "https://R.example./token", "Any");
        check("http://localhost:5000/v2/", "http://localhost:5000/v2/x", "Any");
    }

    #[test]
    fn other_hosts_are_dialled_at_public_addresses_only() {
        check("https://r.example/v2/", "https://auth.example/token", "PublicOnly");
        check("https://r.example/v2/", "https://1.1.1.1/token", "PublicOnly");
        for literal in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "0.0.0.0",
            "100.100.100.200",
            "[fd00:ec2::254]",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            let target = format!("https://{literal}/latest");
            let host = url(&target).host_str().expect("a host").to_owned();
            let expected = format!("the server names `{host}`, which is not a public address");
            check("https://r.example/v2/", &target, &expected);
        }
    }

    #[test]
    fn a_private_host_may_be_named_where_the_user_allows_it_but_not_in_the_clear() {
        let allowed = ["minio.corp:9000", "10.1.0.0/16"].map(|text| text.parse().expect("a host"));
        let vet = |target: &str, is_proxy| {
            vet(&url(target), &url("https://r.example/v2/"), is_proxy, &allowed)
                .map_err(|error| error.to_string())
        };
        assert_eq!(vet("https://minio.corp:9000/x", false), Ok(Dial::Any));
        assert_eq!(vet("https://10.1.2.3/x", false), Ok(Dial::Any));
        assert_eq!(vet("https://minio.corp/x", false), Ok(Dial::PublicOnly));
        assert!(vet("https://169.254.169.254/", false).is_err());
        assert!(vet("http://minio.corp:9000/x", false).is_err());
        assert!(vet("https://minio.corp:9000/x", true).is_err(), "not our proxy");
    }

    #[test]
    fn disguised_literals_are_seen_through() {
        for (disguise, host) in [
            ("https://2130706433/", "127.0.0.1"),
            ("https://0177.0.0.1/", "127.0.0.1"),
            ("https://0x7f.1/", "127.0.0.1"),
        ] {
            let expected = format!("the server names `{host}`, which is not a public address");
            check("https://r.example/v2/", disguise, &expected);
        }
        // Other stops and digits than those of ASCII are no part of a host here.
        Url::parse("https://127\u{3002}0\u{3002}0\u{3002}1/").unwrap_err();
    }

    #[test]
    fn encryption_is_never_given_up_and_other_protocols_are_refused() {
        check(
            "https://r.example/v2/",
            "http://r.example/v2/x?sig=1",
            "the server names `http://r.example/v2/x?…`, which would give up the encryption of \
             `https`",
        );
        check(
            "https://r.example/v2/",
            "file:///etc/passwd",
            "`file` is not a protocol that is spoken here",
        );
        check(
            "https://r.example/v2/",
            "https://r.example@evil.example/",
            "the server names an address on `evil.example` with a user name in it",
        );
    }

    #[test]
    fn a_server_may_not_name_our_proxy() {
        let error = vet(&url("http://proxy.corp/"), &url("http://r.example/"), true, &[]);
        assert_eq!(error, Err(HopError::IsProxy { host: "proxy.corp".into() }));
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let full = || {
            let mut headers = HeaderMap::new();
            for name in [AUTHORIZATION, COOKIE, reqwest::header::ACCEPT] {
                headers.insert(name, HeaderValue::from_static("x"));
            }
            headers
        };
        for (to, kept) in [
            ("https://r.example/other", 3),
            ("https://r.example:443/other", 3),
            ("https://r.example:444/", 1),
            ("http://r.example/", 1),
            ("https://s3.example/", 1),
        ] {
            let mut headers = full();
            keep_headers_for(&mut headers, &url("https://r.example/v2/"), &url(to));
            assert_eq!(headers.len(), kept, "{to}");
        }
    }

    #[test]
    fn redirects_are_relative_to_the_answering_url_and_never_lose_a_body() {
        let from = url("https://r.example/v2/a/");
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("../b?x=1"));
        let hop = |method: Method, has_body, status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            match next_hop(&method, has_body, &from, status, &headers) {
                None => "answer".to_owned(),
                Some(Ok(url)) => url.to_string(),
                Some(Err(error)) => error.to_string(),
            }
        };
        let lost = |method, status| {
            format!(
                "the server redirects a {method} with status {status}, which would lose its body"
            )
        };
        for status in [301, 302, 303, 307, 308] {
            assert_eq!(hop(Method::GET, false, status), "https://r.example/v2/b?x=1");
        }
        assert_eq!(hop(Method::PUT, true, 307), "https://r.example/v2/b?x=1");
        assert_eq!(hop(Method::PUT, true, 302), lost("PUT", 302));
        assert_eq!(hop(Method::POST, false, 301), lost("POST", 301));
        assert_eq!(hop(Method::GET, false, 304), "answer");
        assert_eq!(hop(Method::POST, false, 202), "answer");
    }
}
