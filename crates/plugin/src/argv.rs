//! The command line of the executor, in the original's order.

use crate::buildx;
use crate::name::Name;
use crate::repository::{expanded, host};
use crate::settings::{PluginError, Settings};

/// Where the original has the digest written.
pub(crate) const DIGEST_FILE: &str = "/kaniko/digest-file";

/// Where the key of `PLUGIN_SSH_AGENT_KEY` seems to be; there is no such file.
pub(crate) const AGENT_KEY: &str = "/kaniko/.ssh/agent-key";

/// A command line that grows.
struct Arguments<'s> {
    settings: &'s Settings,
    words: Vec<String>,
}

impl Arguments<'_> {
    fn push(&mut self, word: impl Into<String>) {
        self.words.push(word.into());
    }

    /// `--NAME=VALUE` if there is a value.
    fn text(&mut self, input: &str, name: &str) {
        let value = self.settings.text(input);
        if !value.is_empty() {
            self.push(format!("--{name}={value}"));
        }
    }

    fn same_text(&mut self, name: &str) {
        self.text(name, name);
    }

    /// `--NAME` if it is true.
    fn flag(&mut self, name: &str) {
        if self.settings.is(name) {
            self.push(format!("--{name}"));
        }
    }

    /// `--NAME=VALUE` if it was given at all.
    fn choice(&mut self, name: &str) {
        if let Some(value) = self.settings.choice(name) {
            self.push(format!("--{name}={value}"));
        }
    }

    fn number(&mut self, name: &str) {
        let number = self.settings.number(name);
        if number != 0 {
            self.push(format!("--{name}={number}"));
        }
    }

    /// The name once for each element of a list.
    fn each(&mut self, name: &str, values: impl Iterator<Item = String>) {
        self.words.extend(values.map(|value| format!("--{name}={value}")));
    }

    /// How registries are reached: what pushing a file needs, too. `insecure-pull` and what follows it in the original.
    fn insecure_registries(&mut self) {
        self.each(
            "insecure-registry",
            self.settings.elements_of_text("insecure-registry").into_iter(),
        );
    }

    fn certificates(&mut self) {
        self.each(
            "registry-certificate",
            self.settings.elements_of_text("registry-certificate").into_iter(),
        );
        self.same_text("registry-client-cert");
    }

    /// The original gives this flag no value, and the executor takes the next word for one.
    fn unverified_registries(&mut self) -> Result<(), PluginError> {
        for element in self.settings.elements("skip-tls-verify-registry") {
            match crate::value::boolean(&element) {
                Ok(true) => {
                    let registry = match (self.settings.name, self.settings.text("registry")) {
                        (Name::Docker, _) => self.settings.text("repo"),
                        (_, registry) => registry,
                    };
                    self.push(format!("--skip-tls-verify-registry={}", host(registry)));
                }
                Ok(false) => {}
                Err(_) if element.contains(['.', ':']) || element == "localhost" => {
                    self.push(format!("--skip-tls-verify-registry={element}"));
                }
                Err(why) => {
                    return Err(PluginError::new(format!(
                        "could not parse {element} as bool value for flag skip-tls-verify-registry: {why}"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Settings {
    /// Elements with commas between them of what the original takes for one text.
    fn elements_of_text(&self, name: &str) -> Vec<String> {
        crate::value::list(self.text(name))
            .into_iter()
            .filter(|element| !element.is_empty())
            .collect()
    }

    /// Whether nothing is pushed.
    pub(crate) fn has_no_push(&self) -> bool {
        self.is("no-push") || self.is("dry-run")
    }

    /// The name of the image without a tag.
    pub(crate) fn repository(&self) -> String {
        self.in_registry("repo")
    }

    fn in_registry(&self, input: &str) -> String {
        let (registry, path) = (self.text("registry"), self.text(input));
        match self.name {
            Name::Docker => expanded(registry, path, self.is("expand-repo")).into_owned(),
            // The original's repository has its registry, its cache has not.
            Name::Acr if input == "repo" => path.to_owned(),
            _ => format!("{registry}/{path}"),
        }
    }
}

/// The words of a build. `destinations` are its names.
pub(crate) fn build(
    settings: &Settings,
    destinations: &[String],
) -> Result<Vec<String>, PluginError> {
    let options = buildx::options(settings)?;
    let has_cache =
        settings.is("enable-cache") && !settings.is("no-cache") && !options.is_without_cache;
    let mut line = Arguments { settings, words: Vec::new() };
    line.push(format!("--dockerfile={}", settings.text("dockerfile")));
    line.push(format!("--context=dir://{}", settings.text("context")));
    line.each("destination", destinations.iter().cloned());
    let args = if settings.is("plugin-multiple-build-agrs") { "args-new" } else { "args" };
    for argument in settings.list(args) {
        line.push("--build-arg");
        line.push(argument);
    }
    line.each("label", settings.list("custom-labels").into_iter());
    line.each("registry-mirror", settings.list("registry-mirrors").into_iter());
    line.same_text("target");
    if settings.is("skip-tls-verify") {
        line.push("--skip-tls-verify=true");
    }
    line.same_text("snapshot-mode");
    if has_cache {
        line.push("--cache=true");
        // The original names a repository without a path where none is given.
        if !settings.text("cache-repo").is_empty() {
            line.push(format!("--cache-repo={}", settings.in_registry("cache-repo")));
        }
    }
    if settings.number("cache-ttl") != 0 {
        line.push(format!("--cache-ttl={}h", settings.number("cache-ttl")));
    }
    line.push(format!("--digest-file={DIGEST_FILE}"));
    if settings.has_no_push() {
        line.push("--no-push");
    }
    line.same_text("verbosity");
    line.flag("skip-unused-stages");
    line.same_text("tar-path");
    if has_cache {
        // The original reads this and forgets it.
        line.same_text("cache-dir");
    }
    line.flag("cache-copy-layers");
    match settings.choice("cache-run-layers") {
        Some(true) => line.push("--cache-run-layers=true"),
        // The original cannot say this.
        Some(false) if has_cache => line.push("--cache-run-layers=false"),
        _ => {}
    }
    if settings.is("cleanup") {
        line.push("--cleanup=true");
    }
    line.choice("compressed-caching");
    line.same_text("context-sub-path");
    line.text("platform", "custom-platform");
    line.flag("force");
    line.same_text("image-name-with-digest-file");
    line.same_text("image-name-tag-with-digest-file");
    line.flag("insecure");
    line.flag("insecure-pull");
    line.insecure_registries();
    line.same_text("log-format");
    line.flag("log-timestamp");
    line.same_text("oci-layout-path");
    line.number("push-retry");
    line.certificates();
    line.flag("skip-default-registry-fallback");
    line.flag("reproducible");
    line.flag("single-snapshot");
    line.flag("skip-push-permission-check");
    line.flag("skip-tls-verify-pull");
    line.unverified_registries()?;
    line.flag("use-new-run");
    line.choice("ignore-var-run");
    // The original takes a list for one path.
    line.each(
        "ignore-path",
        settings.elements("ignore-path").chain(settings.elements("ignore-paths")),
    );
    line.number("image-fs-extract-retry");
    line.number("image-download-retry");
    more(&mut line);
    line.words.extend(options.arguments);
    Ok(line.words)
}

/// What the original has no words for.
fn more(line: &mut Arguments<'_>) {
    let settings = line.settings;
    for (input, key) in [("secrets-from-env", "env"), ("secrets-from-file", "src")] {
        for pair in settings.elements(input) {
            // As in docker's step, half a pair is left out.
            if let Some((id, place)) =
                pair.split_once('=').filter(|(id, place)| !id.is_empty() && !place.is_empty())
            {
                line.push(format!("--secret=id={id},{key}={place}"));
            }
        }
    }
    line.same_text("secret");
    if !settings.text("ssh-agent-key").is_empty() {
        line.push(format!("--ssh=default={AGENT_KEY}"));
    }
    for name in settings.elements("args-from-env") {
        line.push("--build-arg");
        line.push(name);
    }
    for host in settings.elements("add-host") {
        // The step's users write a colon there.
        let pair = host.split_once(['=', ':']).map(|(name, address)| format!("{name}={address}"));
        line.push(format!("--add-host={}", pair.unwrap_or(host)));
    }
}

/// The words of `push`: the image in `source` under these names.
pub(crate) fn push(
    settings: &Settings,
    source: &str,
    destinations: &[String],
) -> Result<Vec<String>, PluginError> {
    let mut line = Arguments { settings, words: vec!["push".to_owned(), source.to_owned()] };
    line.each("destination", destinations.iter().cloned());
    if settings.is("skip-tls-verify") {
        line.push("--skip-tls-verify=true");
    }
    line.push(format!("--digest-file={DIGEST_FILE}"));
    line.same_text("verbosity");
    line.same_text("image-name-with-digest-file");
    line.same_text("image-name-tag-with-digest-file");
    line.flag("insecure");
    line.insecure_registries();
    line.same_text("log-format");
    line.number("push-retry");
    line.certificates();
    line.flag("skip-push-permission-check");
    line.unverified_registries()?;
    Ok(line.words)
}
