//! Tells sources that are fetched from sources that are files.

/// What a source of `ADD` or `COPY` is, if it is not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remote {
    Git,
    Http,
}

/// Reads a source word as BuildKit does. `None` is a path, `github.com/a/b` included.
pub(crate) fn classify(source: &str) -> Option<Remote> {
    if source.starts_with("./") || source.starts_with("../") || source.starts_with("github.com/") {
        return None;
    }
    if let Some((scheme, rest)) = source.split_once("://")
        && !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => Some(Remote::Git),
            "http" | "https" => {
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                // Git repositories are told by their last four letters, lower case.
                let is_git = path.contains('/') && path.strip_suffix(".git").is_some();
                // Only git looks at the scheme in any case.
                let is_http = source.starts_with("http://") || source.starts_with("https://");
                if is_git { Some(Remote::Git) } else { is_http.then_some(Remote::Http) }
            }
            _ => None,
        };
    }
    is_scp_style(source).then_some(Remote::Git)
}

/// `user@host:path`
fn is_scp_style(source: &str) -> bool {
    let is_word = |text: &str, extra: &[u8]| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    source.split_once('@').is_some_and(|(user, rest)| {
        is_word(user, b"-_") && rest.split_once(':').is_some_and(|(host, _)| is_word(host, b"-."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_recognised_by_scheme_suffix_or_scp_form() {
        for source in [
            "https://example.com/foo.git#ref:dir",
            "HTTPS://example.com/foo.git",
            "http://h/a.git?tag=v1",
            "git://example.com/foo",
            "ssh://git@h/a/b",
            "git@github.com:moby/buildkit",
            "a@b:c/d.git",
        ] {
            assert_eq!(classify(source), Some(Remote::Git), "{source}");
        }
    }

    #[test]
    fn other_addresses_are_files_to_download() {
        for source in [
            "https://example.com/",
            "http://example.com/foo.git/",
            "https://h/a.GIT",
            "http://github.com/docker/docker.git:#branch",
        ] {
            assert_eq!(classify(source), Some(Remote::Http), "{source}");
        }
    }

    #[test]
    fn everything_else_is_a_path() {
        for source in [
            "github.com/a/b",
            "custom.xyz/moby/buildkit.git",
            "./.git",
            "file:///a/b.git",
            "/github.com/a/b",
            "foo@bar",
            "a b@c:d",
            "",
        ] {
            assert_eq!(classify(source), None, "{source}");
        }
    }
}
