//! AWS' signature of requests, version 4.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write as _;

use ebiko_transport::Url;
use ring::{digest, hmac};

use super::Keys;

/// Who signs, for what.
pub(super) struct Signer<'k> {
    pub(super) keys: &'k Keys,
    pub(super) region: &'k str,
    pub(super) service: &'k str,
    /// `20150830T123600Z`.
    pub(super) time: &'k str,
}

impl Signer<'_> {
    /// The value of `Authorization`.
    ///
    /// `headers` are those that are signed, with names in lower case and in order; `host` and `x-amz-date` are among them.
    /// The path is signed as it stands in the URL, as S3 wants it; that of every other service asked here is `/`.
    pub(super) fn authorization(
        &self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> String {
        let mut canonical = format!("{method}\n{}\n{}\n", url.path(), canonical_query(url));
        for (name, value) in headers {
            let value: Vec<&str> = value.split_ascii_whitespace().collect();
            let _infallible = writeln!(canonical, "{name}:{}", value.join(" "));
        }
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let _infallible = write!(canonical, "\n{names}\n{}", sha256(body));

        let day = self.time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.time, sha256(canonical.as_bytes()));
        let first = format!("AWS4{}", self.keys.secret.reveal());
        let key = [day, self.region, self.service, "aws4_request"]
            .into_iter()
            .fold(first.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.keys.id
        )
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<_> =
        url.query_pairs().map(|(name, value)| (encoded(&name), encoded(&value))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _infallible = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys() -> Keys {
        Keys {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: None,
            until: u64::MAX,
        }
    }

    /// Signs one of the requests of AWS' own test suite, `aws-sig-v4-test-suite`.
    #[track_caller]
    fn check(method: &str, query: &str, more: &[(&str, &str)], body: &str, expected: &str) {
        let url = Url::parse(&format!("https://example.amazonaws.com/{query}")).unwrap();
        let mut headers =
            [&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")], more]
                .concat();
        headers.sort_unstable();
        let signer = Signer {
            keys: &keys(),
            region: "us-east-1",
            service: "service",
            time: "20150830T123600Z",
        };
        let authorization = signer.authorization(method, &url, &headers, body.as_bytes());
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            authorization,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={}, Signature={expected}",
                names.join(";")
            )
        );
    }

    #[test]
    fn the_vectors_of_the_suite_are_signed_alike() {
        // get-vanilla
        check(
            "GET",
            "",
            &[],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        // get-vanilla-query-order-key-case
        check(
            "GET",
            "?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        // post-vanilla
        check(
            "POST",
            "",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        // post-x-www-form-urlencoded
        check(
            "POST",
            "",
            &[("content-type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
    }

    /// The example of the IAM user guide.
    #[test]
    fn the_example_of_the_guide_is_signed_alike() {
        let url =
            Url::parse("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08").unwrap();
        let signer =
            Signer { keys: &keys(), region: "us-east-1", service: "iam", time: "20150830T123600Z" };
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let authorization = signer.authorization("GET", &url, &headers, b"");
        let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert!(authorization.ends_with(expected), "{authorization}");
    }
}
