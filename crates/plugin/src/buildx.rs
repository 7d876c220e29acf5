//! Options of `docker buildx build` that the step's users give it.

use crate::settings::{PluginError, Settings};

/// Options that are the same here under another name or none: what they say holds anyway.
const HOLDS_ANYWAY: [&str; 8] =
    ["--pull", "--push", "--rm", "--force-rm", "--progress", "--quiet", "--builder", "--load"];

/// Options with a value that an executor has under the same name.
const SAME: [&str; 11] = [
    "--ssh",
    "--secret",
    "--build-arg",
    "--label",
    "--target",
    "--add-host",
    "--shm-size",
    "--ulimit",
    "--build-context",
    "--allow",
    "--annotation",
];

/// What buildx options add to the command line, and whether they turn the cache off.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) arguments: Vec<String>,
    pub(crate) is_without_cache: bool,
}

/// Reads both lists of options.
pub(crate) fn options(settings: &Settings) -> Result<Options, PluginError> {
    let mut words: Vec<String> = Vec::new();
    for element in settings.elements("buildx-options") {
        match words.last_mut() {
            // The comma was in a value, as in `id=token,src=file`.
            Some(last) if !element.starts_with('-') => {
                last.push(',');
                last.push_str(&element);
            }
            _ => words.push(element),
        }
    }
    words.extend(settings.elements("buildx-options-semicolon"));
    let mut options = Options::default();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once(['=', ' ']) {
            Some((name, value)) => (name, Some(value.trim())),
            None => (word, None),
        };
        // A value may be the next element of the list with semicolons.
        let mut needed = || match value {
            Some(value) => Ok(value.to_owned()),
            None => words
                .next_if(|next| !next.starts_with('-'))
                .map(str::to_owned)
                .ok_or_else(|| PluginError::new(format!("the buildx option {name} needs a value"))),
        };
        let refuse = |hint| {
            Err(PluginError::with_hint(
                format!("the buildx option {word} cannot be used here"),
                hint,
            ))
        };
        match name {
            "--no-cache" if value.is_none_or(|value| value == "true") => {
                options.is_without_cache = true;
            }
            "--no-cache" => {}
            "--platform" => {
                let platform = needed()?;
                if platform.contains(',') {
                    return refuse(
                        "build once for each platform and join the images with `executor index create`",
                    );
                }
                options.arguments.push(format!("--custom-platform={platform}"));
            }
            "--provenance" | "--sbom" if value == Some("false") => {}
            "--network" if value == Some("default") => {}
            "--output" | "-o" => options.arguments.push(output(&needed()?).map_err(|()| {
                PluginError::with_hint(
                    format!("the buildx option {word} cannot be used here"),
                    "the outputs are PLUGIN_TAR_PATH and PLUGIN_OCI_LAYOUT_PATH",
                )
            })?),
            name if SAME.contains(&name) => {
                options.arguments.push(format!("{name}={}", needed()?));
            }
            name if HOLDS_ANYWAY.contains(&name) => {
                // A value that stands alone belongs to it.
                let _value = words.next_if(|next| !next.starts_with('-'));
            }
            "--cache-from" | "--cache-to" => {
                return refuse(
                    "layers are kept where PLUGIN_ENABLE_CACHE and PLUGIN_CACHE_REPO say",
                );
            }
            "--tag" | "-t" | "--file" | "-f" => {
                return refuse("the inputs are PLUGIN_TAGS, PLUGIN_REPO and PLUGIN_DOCKERFILE");
            }
            _ => {
                return refuse(
                    "remove it, so that the build does not go on without what it asks for",
                );
            }
        }
    }
    Ok(options)
}

/// `type=docker,dest=FILE` is a tar; other kinds need a daemon or are not there.
fn output(text: &str) -> Result<String, ()> {
    let field = |wanted: &str| {
        text.split(',').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('='))
    };
    match (field("type"), field("dest")) {
        (Some("docker"), Some(file)) if !file.is_empty() => Ok(format!("--tar-path={file}")),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::plan::tests::{Place, settings};

    fn read(variable: &str, text: &str) -> String {
        match options(&settings(Name::Docker, &[(variable, text)], &Place::default())) {
            Ok(options) => options.arguments.join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn keys_and_secrets_go_through() {
        for (text, expected) in [
            ("--ssh=sshkey=/harness/id_ed25519", "--ssh=sshkey=/harness/id_ed25519"),
            ("--ssh default", "--ssh=default"),
            ("--secret=id=a,src=/b,--pull", "--secret=id=a,src=/b"),
            ("--platform=linux/arm64, --label=a=b", "--custom-platform=linux/arm64 --label=a=b"),
            ("--output=type=docker,dest=/o.tar", "--tar-path=/o.tar"),
            ("", ""),
        ] {
            assert_eq!(read("PLUGIN_BUILDX_OPTIONS", text), expected, "{text}");
        }
        assert_eq!(
            read(
                "PLUGIN_BUILDX_OPTIONS_SEMICOLON",
                "--secret=id=a,src=/b;--ssh;default;--progress=plain"
            ),
            "--secret=id=a,src=/b --ssh=default"
        );
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for text in [
            "--cache-to=type=inline",
            "--sbom=true",
            "--platform=linux/amd64,linux/arm64",
            "-t x",
            "--output=type=oci",
            "stray",
        ] {
            assert_eq!(
                read("PLUGIN_BUILDX_OPTIONS", text),
                format!("error: the buildx option {text} cannot be used here")
            );
        }
        assert_eq!(
            read("PLUGIN_BUILDX_OPTIONS", "--ssh"),
            "error: the buildx option --ssh needs a value"
        );
    }
}
