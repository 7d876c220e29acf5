//! `--build-context`: names that stand for something else than in a registry.

use std::collections::BTreeMap;

use ebiko_oci::{Platform, Reference};

use crate::actions::{BaseReference, ImageStore};

use crate::{go, platform};

/// The named contexts of a request, by the names that they are looked up by.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamedContexts(BTreeMap<String, NamedContext>);

#[derive(Debug, Clone)]
struct NamedContext {
    /// The name as the request has it.
    name: String,
    value: String,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them, and most are of this kind")]
pub(crate) enum ContextKind {
    /// `docker-image://scratch`
    Scratch,
    /// An image, in a registry or a layout.
    Image(BaseReference),
    /// Files: a directory, a git repository, an archive. This is the name in the request.
    Files(String),
}

impl NamedContexts {
    pub(crate) fn new(given: &BTreeMap<String, String>) -> Self {
        let context = |(name, value): (&String, &String)| {
            (key(name), NamedContext { name: name.clone(), value: value.clone() })
        };
        Self(given.iter().map(context).collect())
    }

    /// What stands for the stage or image `name`, `None` if nothing does. `platform` is that of the image wanted.
    pub(crate) fn find(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<Option<ContextKind>, String> {
        if self.0.is_empty() || ["scratch", "context"].contains(&name.to_ascii_lowercase().as_str())
        {
            return Ok(None);
        }
        let name = key(name);
        let for_platform = format!("{name}::{}", platform::in_full(&platform.normalized()));
        let context = self.0.get(&for_platform).or_else(|| self.0.get(&name));
        context.map(|context| context.kind(platform)).transpose()
    }
}

/// The short form of an image's name, without `latest`.
fn key(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
        }
        Err(_) => name.to_owned(),
    }
}

impl NamedContext {
    fn kind(&self, platform: &Platform) -> Result<ContextKind, String> {
        let Self { name, value } = self;
        let (scheme, rest) = value.split_once(':').unwrap_or(("", value));
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let image = |reference, store| {
            ContextKind::Image(BaseReference { reference, platform: platform.clone(), store })
        };
        match scheme {
            "docker-image" if rest == "scratch" => Ok(ContextKind::Scratch),
            "docker-image" => match rest.parse() {
                Ok(reference) => Ok(image(reference, ImageStore::Registry)),
                Err(error) => {
                    Err(format!("invalid context {} for {name}: {error}", go::quote(value)))
                }
            },
            "oci-layout" => {
                let (directory, version) = layout(rest);
                if directory.is_empty() {
                    return Err(format!("invalid context specifier {value} for {name}"));
                }
                let base = name.split("::").next().unwrap_or_default().parse::<Reference>();
                let base = base.map_or_else(|_| "context".to_owned(), |base| base.name());
                match format!("{base}{version}").parse() {
                    Ok(reference) => Ok(image(reference, ImageStore::Layout(directory.to_owned()))),
                    Err(error) => Err(format!(
                        "could not parse oci-layout reference {}: {error}",
                        go::quote(rest)
                    )),
                }
            }
            "input" | "target" => Err(format!("unsupported context source {scheme} for {name}")),
            _ => Ok(ContextKind::Files(name.clone())),
        }
    }
}

/// `directory[:tag][@digest]`, as the directory and the rest.
fn layout(text: &str) -> (&str, &str) {
    let before_digest = text.find('@').unwrap_or(text.len());
    let last_part = text[..before_digest].rfind('/').map_or(0, |slash| slash + 1);
    let end = text[last_part..before_digest].find(':').map_or(before_digest, |at| last_part + at);
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(contexts: &[(&str, &str)], name: &str, expected: &str) {
        let given = contexts.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let found = NamedContexts::new(&given.collect()).find(name, &Platform::linux("arm64"));
        let actual = match found {
            Err(message) => format!("error: {message}"),
            Ok(None) => "none".to_owned(),
            Ok(Some(ContextKind::Scratch)) => "scratch".to_owned(),
            Ok(Some(ContextKind::Files(name))) => format!("files of {name}"),
            Ok(Some(ContextKind::Image(image))) => match &image.store {
                ImageStore::Registry => image.to_string(),
                ImageStore::Layout(directory) => format!("{image} in {directory}"),
            },
        };
        assert_eq!(actual, expected, "looking up {name} in {contexts:?}");
    }

    #[test]
    fn a_name_is_looked_up_by_its_short_form() {
        let given = [("busybox", "docker-image://alpine:3"), ("docker.io/a/b:latest", "./dir")];
        check(&given, "busybox", "index.docker.io/library/alpine:3 for linux/arm64");
        check(
            &given,
            "docker.io/library/busybox:latest",
            "index.docker.io/library/alpine:3 for linux/arm64",
        );
        check(&given, "a/b", "files of docker.io/a/b:latest");
        check(&given, "busybox:1", "none");
        check(&[("a--", "x")], "a--", "files of a--");
    }

    #[test]
    fn scratch_and_context_keep_their_meaning() {
        let given = [("scratch", "docker-image://a"), ("context", "docker-image://a")];
        check(&given, "scratch", "none");
        check(&given, "Context", "none");
    }

    #[test]
    fn a_platform_of_its_own_comes_first() {
        check(&[("a", "./x"), ("a::linux/arm64", "./y")], "a", "files of a::linux/arm64");
        check(&[("a", "./x"), ("a::linux/amd64", "./y")], "a", "files of a");
    }

    #[test]
    fn a_value_is_an_image_or_files() {
        check(&[("a", "docker-image://scratch")], "a", "scratch");
        check(
            &[("a", "oci-layout://d/e:t")],
            "a",
            "index.docker.io/library/a:t for linux/arm64 in d/e",
        );
        check(
            &[("a", "oci-layout:///d:e/f")],
            "a",
            "index.docker.io/library/a:latest for linux/arm64 in /d:e/f",
        );
        check(
            &[("a:1", "oci-layout://d")],
            "a:1",
            "index.docker.io/library/a:latest for linux/arm64 in d",
        );
        for value in ["https://h/x.tar", "git@h:x", "/dir", "C:\\dir", "docker"] {
            check(&[("a", value)], "a", "files of a");
        }
        check(&[("a", "input:b")], "a", "error: unsupported context source input for a");
        check(
            &[("a", "oci-layout://")],
            "a",
            "error: invalid context specifier oci-layout:// for a",
        );
    }
}
