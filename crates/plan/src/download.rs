//! Files that `ADD` fetches.

use crate::actions::DownloadSource;
use crate::url::Url;

/// The name of a file whose address has no path.
const UNNAMED: &str = "__unnamed__";

impl DownloadSource {
    /// The file at `url`; fails where `checksum` is no digest that can be checked, with BuildKit's words.
    pub(crate) fn new(url: &str, checksum: Option<&str>) -> Result<Self, &'static str> {
        checksum.map_or(Ok(()), check_digest)?;
        let name = Url::parse(url).and_then(|url| url.file_name().map(ToOwned::to_owned));
        Ok(Self {
            url: url.to_owned(),
            name: name.unwrap_or_else(|| UNNAMED.to_owned()),
            checksum: checksum.map(ToOwned::to_owned),
        })
    }
}

/// Whether `ADD` takes a source, which is no git repository, for a file to fetch. Only lower case counts.
pub(crate) fn is_download(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn check_digest(digest: &str) -> Result<(), &'static str> {
    const FORMAT: &str = "invalid checksum digest format";
    let (algorithm, value) = digest.split_once(':').ok_or(FORMAT)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => {
            let is_name = !algorithm.is_empty()
                && algorithm.split(['.', '+', '_', '-']).all(|part| {
                    !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                });
            let is_value = !value.is_empty()
                && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte));
            return Err(if is_name && is_value { "unsupported digest algorithm" } else { FORMAT });
        }
    };
    if value.is_empty() {
        return Err(FORMAT);
    }
    if value.len() != length {
        return Err("invalid checksum digest length");
    }
    let is_hex = value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { Ok(()) } else { Err(FORMAT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_like_the_end_of_its_path() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=/y#z", "b.tar.gz"),
            ("https://h/a%20b/", "a b"),
            ("https://h", "__unnamed__"),
            ("https://h/?x", "__unnamed__"),
            ("https://h/%zz", "__unnamed__"),
        ] {
            assert_eq!(DownloadSource::new(url, None).unwrap().name, name, "{url}");
        }
    }

    #[test]
    fn a_checksum_must_be_a_digest() {
        let check = |digest: &str, expected: Result<(), &str>| {
            let actual = DownloadSource::new("https://h/x", Some(digest)).map(|_| ());
            assert_eq!(actual, expected, "{digest}");
        };
        check(&format!("sha256:{}", "a".repeat(64)), Ok(()));
        check(&format!("sha512:{}", "0".repeat(128)), Ok(()));
        for digest in ["abc", ":a", "sha256:", "UPPER:x", "a..b:c", "md5:é"] {
            check(digest, Err("invalid checksum digest format"));
        }
        check(&format!("sha256:{}", "A".repeat(64)), Err("invalid checksum digest format"));
        check("md5:7e55db001d319a94b0b713529a756623", Err("unsupported digest algorithm"));
        check("sha256:ab", Err("invalid checksum digest length"));
    }
}
