//! Names of images in registries.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The one name under which Docker Hub appears in a [`Reference`], in kaniko's digest files and in
/// `config.json` keys.
pub const DOCKER_HUB: &str = "index.docker.io";

/// Where an image is: `registry/repository[:tag][@digest]`.
///
/// Parsing applies Docker's defaults, so that two spellings of one image are one value: Docker
/// Hub is always [`DOCKER_HUB`], its official images get `library/`, and a reference with neither
/// tag nor digest has the tag `latest`. The grammar is that of
/// <https://github.com/distribution/reference>.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    pub text: String,
    pub reason: String,
}

impl Reference {
    /// Host and port of the registry, such as `localhost:5000` or [`DOCKER_HUB`].
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, which is `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at exactly this manifest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The tag of the same repository that consists of the digits of `key`.
    #[must_use]
    pub fn keyed(&self, key: Digest) -> Self {
        Self { tag: Some(key.hex()), digest: None, ..self.clone() }
    }

    /// The same image in another place: a mirror, or a mapped registry with a path prefix.
    #[must_use]
    pub fn moved_to(&self, registry: &str, repository: String) -> Self {
        Self { registry: registry.into(), repository, ..self.clone() }
    }

    /// The form that `docker images` shows: `debian:bookworm` for Docker Hub's official images.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix(DOCKER_HUB).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => text,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason: &str| ReferenceError {
            text: text.chars().take(300).collect(),
            reason: reason.into(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|error: crate::DigestError| {
                    refuse(&format!("its digest is wrong, {}", error.reason))
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].split_once(':') {
            Some((last, tag)) => (&rest[..name_end + last.len()], Some(tag)),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(refuse("it has no name"));
        }
        if name.len() > 255 {
            return Err(refuse("the name is longer than 255 bytes"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse(
                "a tag has at most 128 letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path),
            _ => ("docker.io", name),
        };
        if !is_registry(registry) {
            return Err(refuse("the registry is not a host name with an optional port"));
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let official =
                if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
            return Err(refuse(&format!("repository name ({official}{path}) must be lowercase")));
        }
        if !path.split('/').all(is_path_component) {
            return Err(refuse(
                "each part of the repository is made of a-z and 0-9, joined by `.`, `_`, `__` or `-`",
            ));
        }
        let is_hub = ["docker.io", DOCKER_HUB, "registry-1.docker.io"].contains(&registry);
        let registry = if is_hub { DOCKER_HUB.into() } else { registry.to_ascii_lowercase() };
        let repository = match path {
            official if is_hub && !path.contains('/') => format!("library/{official}"),
            path => path.into(),
        };
        let tag = match (tag, digest) {
            (None, None) => Some("latest".into()),
            (tag, _) => tag.map(Into::into),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// Docker's rule for telling `host/name` from `user/name`.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("-")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_port = |port: &str| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

fn is_path_component(part: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separators = part.split(|c: char| c.is_ascii() && is_name(c as u8)).map(str::as_bytes);
    let is_separator = |separator: &[u8]| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-')
    };
    let starts_and_ends_with_name =
        part.bytes().next().is_some_and(is_name) && part.bytes().last().is_some_and(is_name);
    starts_and_ends_with_name && separators.all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match text.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(error) => format!("refused: {}", error.reason),
        };
        assert_eq!(actual, expected, "parsing {text:?}");
    }

    #[test]
    fn docker_hub_has_one_name() {
        check("debian", "index.docker.io/library/debian:latest");
        check("debian:bookworm", "index.docker.io/library/debian:bookworm");
        check("docker.io/debian", "index.docker.io/library/debian:latest");
        check("registry-1.docker.io/a/b:c", "index.docker.io/a/b:c");
        check("index.docker.io/library/debian", "index.docker.io/library/debian:latest");
    }

    #[test]
    fn a_first_part_with_a_dot_or_port_is_a_registry() {
        check("localhost/x", "localhost/x:latest");
        check("localhost:5000/x/y:z", "localhost:5000/x/y:z");
        check("ghcr.io/o/r", "ghcr.io/o/r:latest");
        check("user/name", "index.docker.io/user/name:latest");
        check("[::1]:5000/x", "[::1]:5000/x:latest");
        check("GHCR.io/x", "ghcr.io/x:latest");
    }

    #[test]
    fn a_digest_needs_no_tag_and_may_have_one() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        check(&format!("r.io/x@sha256:{hex}"), &format!("r.io/x@sha256:{hex}"));
        check(&format!("r.io/x:t@sha256:{hex}"), &format!("r.io/x:t@sha256:{hex}"));
        check(
            "r.io/x@sha256:12",
            "refused: its digest is wrong, a sha256 digest has 64 hexadecimal digits",
        );
    }

    #[test]
    fn wrong_names_are_refused_with_the_reason() {
        check("", "refused: it has no name");
        check("r.io/UPPER", "refused: repository name (UPPER) must be lowercase");
        check("Alpine", "refused: repository name (library/Alpine) must be lowercase");
        check("a/b:", TAG);
        check("a/b:-x", TAG);
        check("r.io:port/x", "refused: the registry is not a host name with an optional port");
        check("r.io:99999/x", "refused: the registry is not a host name with an optional port");
        check("-r.io/x", "refused: the registry is not a host name with an optional port");
        check("r.io/a//b", PART);
        check("r.io/../b", PART);
        check("r.io/a___b", PART);
        check("r.io/a-", PART);
        check(&format!("r.io/{}", "x".repeat(255)), "refused: the name is longer than 255 bytes");
    }

    const TAG: &str = "refused: a tag has at most 128 letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`";
    const PART: &str = "refused: each part of the repository is made of a-z and 0-9, joined by `.`, `_`, `__` or `-`";

    #[test]
    fn upper_case_in_front_is_a_registry_as_docker_has_it() {
        check("UPPER/x", "upper/x:latest");
    }

    #[test]
    fn the_familiar_form_is_what_docker_shows() {
        let familiar = |text: &str| text.parse::<Reference>().unwrap().familiar();
        assert_eq!(familiar("debian"), "debian:latest");
        assert_eq!(familiar("docker.io/u/x:1"), "u/x:1");
        assert_eq!(familiar("localhost:5000/x:1"), "localhost:5000/x:1");
    }
}
