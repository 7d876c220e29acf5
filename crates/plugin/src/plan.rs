//! What a step does.

use std::path::Path;

use crate::argv;
use crate::logins::Text;
use crate::name::Name;
use crate::outputs::Outputs;
use crate::repository::{host, without_scheme};
use crate::settings::{Files, PluginError, Settings};
use crate::tags::{automatic, expanded};

/// What is run, and what is written when it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The executor's command line, without the program's name.
    pub argv: Vec<String>,
    /// The private key for `--ssh`, and the path that the command line has for it. There is no such file.
    pub agent_key: Option<(&'static str, Text)>,
    /// The tar that is written, whose directory is made.
    pub tar: Option<String>,
    /// Where the executor writes the digest.
    pub digest_file: &'static str,
    /// The files for the next step.
    pub outputs: Outputs,
    /// What is done with a repository before.
    pub repository: Option<Repository>,
    /// The registry of Azure's and the subscription in whose portal it is looked up, if the artifact is to name that.
    pub portal: Option<(String, String)>,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
}

/// What a repository of Amazon's is to be before something is pushed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The host of the registry.
    pub registry: String,
    /// The repository, without the registry.
    pub name: String,
    /// Whether it is made if it is not there.
    pub is_made: bool,
    /// The text of its lifecycle policy.
    pub lifecycle_policy: Option<String>,
    /// The text of its policy.
    pub policy: Option<String>,
}

impl Settings {
    /// Decides what is run.
    ///
    /// # Errors
    ///
    /// Fails as the original does, in its order and its words.
    pub fn plan(&self, files: &dyn Files) -> Result<Plan, PluginError> {
        let is_push_only = self.is("push-only");
        if self.has_no_push() && is_push_only {
            return Err(PluginError::new(match self.name {
                Name::Ecr => "no-push and push-only flags cannot be used together",
                _ => "inputs no-push and push-only cannot be used together. please define only one",
            }));
        }
        let repository = self.repository();
        if !self.has_no_push() && repository.is_empty() {
            return Err(PluginError::new("repository name to publish image must be specified"));
        }
        let source = self.text("source-tar-path");
        if is_push_only {
            if source.is_empty() {
                return Err(PluginError::new(
                    "source_tar_path is required when push_only is set. please provide a valid tarball path",
                ));
            }
            if !files.exists(Path::new(source)) {
                return Err(PluginError::new(format!(
                    "image tarball does not exist at path: {source}"
                )));
            }
        } else {
            let dockerfile = Path::new(self.text("dockerfile"));
            if dockerfile.as_os_str().is_empty() || !files.exists(dockerfile) {
                return Err(PluginError::new(format!(
                    "dockerfile does not exist at path: {}",
                    clean(&files.directory().join(dockerfile))
                )));
            }
        }
        let tags = self.tags()?;
        let tar = Some(self.text("tar-path")).filter(|tar| !tar.is_empty() && !is_push_only);
        let has_name_files = !self.text("image-name-with-digest-file").is_empty()
            || !self.text("image-name-tag-with-digest-file").is_empty();
        // The original names an image that is not pushed only in a tar, and then even if it has no name.
        let is_named =
            !self.has_no_push() || ((tar.is_some() || has_name_files) && !repository.is_empty());
        let name = |tag: &String| format!("{repository}:{tag}");
        let destinations: Vec<String> =
            if is_named { tags.iter().map(name).collect() } else { Vec::new() };
        let argv = if is_push_only {
            argv::push(self, source, &destinations)?
        } else {
            argv::build(self, &destinations)?
        };
        // The clouds' steps describe the image without its registry.
        let described = match self.name {
            Name::Docker => repository.clone(),
            _ => self.text("repo").to_owned(),
        };
        let path = |input| Some(self.text(input)).filter(|path| !path.is_empty()).map(Into::into);
        let agent_key = Some(self.text("ssh-agent-key")).filter(|key| !key.is_empty());
        Ok(Plan {
            argv,
            agent_key: agent_key.map(|key| (argv::AGENT_KEY, Text::new(key))),
            tar: tar.map(str::to_owned),
            digest_file: argv::DIGEST_FILE,
            outputs: Outputs {
                artifact_file: path("artifact-file"),
                output_file: path("output-file"),
                registry_type: self.name.registry_type(),
                // The portal's address, which is not known yet, or nothing.
                registry: if self.name == Name::Acr {
                    String::new()
                } else {
                    self.text("registry").to_owned()
                },
                images: tags.iter().map(|tag| format!("{described}:{tag}")).collect(),
                tar: tar.map(str::to_owned),
            },
            repository: self.amazon_repository(files)?,
            portal: self.portal(),
            warnings: self.warnings(&repository),
        })
    }

    fn portal(&self) -> Option<(String, String)> {
        let subscription = self.text("subscription-id");
        let is_wanted = self.name == Name::Acr
            && !subscription.is_empty()
            && !self.text("artifact-file").is_empty();
        is_wanted.then(|| (host(self.text("registry")).to_owned(), subscription.to_owned()))
    }

    /// What the step wants of a repository of Amazon's. The original sets policies also where nothing is pushed.
    fn amazon_repository(&self, files: &dyn Files) -> Result<Option<Repository>, PluginError> {
        let read = |input: &str| {
            let path = self.text(input);
            if path.is_empty() {
                return Ok(None);
            }
            let text = files.read(Path::new(path)).map_err(|error| {
                PluginError::new(format!("cannot read the {input} in {path}: {error}"))
            })?;
            String::from_utf8(text)
                .map(Some)
                .map_err(|_| PluginError::new(format!("the {input} in {path} is no text")))
        };
        if self.name != Name::Ecr {
            return Ok(None);
        }
        let is_made = self.is("create-repository") && !self.has_no_push();
        let (lifecycle_policy, policy) = (read("lifecycle-policy")?, read("repository-policy")?);
        if !is_made && lifecycle_policy.is_none() && policy.is_none() {
            return Ok(None);
        }
        let (registry, name) = (self.text("registry").to_owned(), self.text("repo").to_owned());
        if registry.is_empty() || name.is_empty() {
            let missing = if registry.is_empty() { "registry" } else { "repo" };
            return Err(PluginError::new(format!("{missing} must be specified")));
        }
        Ok(Some(Repository { registry, name, is_made, lifecycle_policy, policy }))
    }

    fn tags(&self) -> Result<Vec<String>, PluginError> {
        let given = self.list("tags");
        if self.is("auto-tag") && self.is("expand-tag") {
            return Err(PluginError::new("The auto-tag flag conflicts with the expand-tag flag"));
        }
        if self.is("auto-tag") {
            let (reference, branch) =
                (self.text("drone-commit-ref"), self.text("drone-repo-branch"));
            return automatic(&given, reference, branch, self.text("auto-tag-suffix"))
                .map_err(PluginError::new);
        }
        if self.is("expand-tag") {
            return Ok(given.iter().flat_map(|tag| expanded(tag)).collect());
        }
        Ok(given)
    }

    fn warnings(&self, repository: &str) -> Vec<String> {
        let mut warnings = self.ignored();
        for name in ["custom-dns", "custom-dns-search"] {
            if self.elements(name).next().is_some() {
                warnings.push(format!(
                    "PLUGIN_{} has no effect: a RUN uses the pod's resolver, which `dnsConfig` of the pod sets",
                    name.to_uppercase().replace('-', "_")
                ));
            }
        }
        if without_scheme(repository) != repository {
            warnings.push(format!("the scheme of `{repository}` is left out"));
        }
        for name in ["create-repository", "lifecycle-policy", "repository-policy"] {
            if self.name == Name::Acr && (self.is(name) || !self.text(name).is_empty()) {
                let variable = name.to_uppercase().replace('-', "_");
                warnings.push(format!(
                    "PLUGIN_{variable} has no effect: a registry of Azure makes repositories by itself"
                ));
            }
        }
        warnings
    }
}

/// A path without `.` and `..`, as Go's `filepath.Abs` gives it.
fn clean(path: &Path) -> String {
    let mut clean = std::path::PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean.display().to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;

    /// A place with these files, whose working directory is `/harness`.
    pub(crate) struct Place(BTreeMap<&'static str, &'static str>);

    impl Default for Place {
        fn default() -> Self {
            Self(BTreeMap::from([("/harness/Dockerfile", "x")]))
        }
    }

    impl Files for Place {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let path = Path::new("/harness").join(path);
            let text = self.0.iter().find(|(known, _)| Path::new(known) == path);
            text.map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn exists(&self, path: &Path) -> bool {
            self.read(path).is_ok()
        }

        fn directory(&self) -> &Path {
            Path::new("/harness")
        }
    }

    pub(crate) fn settings(name: Name, variables: &[(&str, &str)], place: &Place) -> Settings {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(name, &variables.collect(), &[], place).unwrap()
    }

    fn plan(name: Name, variables: &[(&str, &str)]) -> String {
        match settings(name, variables, &Place::default()).plan(&Place::default()) {
            Ok(plan) => plan.argv.join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    /// The words of a build of `Dockerfile` in the working directory, without those that are always there.
    fn words(name: Name, variables: &[(&str, &str)]) -> String {
        plan(name, variables)
            .replace("--dockerfile=Dockerfile --context=dir://. ", "")
            .replace("--digest-file=/kaniko/digest-file", "…")
    }

    const NO_PUSH: (&str, &str) = ("PLUGIN_NO_PUSH", "true");

    #[test]
    fn every_input_of_the_original_has_its_place() {
        let all = [
            ("PLUGIN_REPO", "r"),
            ("PLUGIN_TAGS", "1"),
            ("PLUGIN_BUILD_ARGS", "A=1"),
            ("PLUGIN_CUSTOM_LABELS", "l=1"),
            ("PLUGIN_REGISTRY_MIRRORS", "m"),
            ("PLUGIN_TARGET", "t"),
            ("PLUGIN_SKIP_TLS_VERIFY", "1"),
            ("PLUGIN_SNAPSHOT_MODE", "redo"),
            ("PLUGIN_ENABLE_CACHE", "1"),
            ("PLUGIN_CACHE_REPO", "c"),
            ("PLUGIN_CACHE_TTL", "0x18"),
            ("PLUGIN_VERBOSITY", "debug"),
            ("PLUGIN_SKIP_UNUSED_STAGES", "1"),
            ("PLUGIN_TAR_PATH", "x.tar"),
            ("PLUGIN_CACHE_DIR", "/cd"),
            ("PLUGIN_CACHE_COPY_LAYERS", "1"),
            ("PLUGIN_CACHE_RUN_LAYERS", "1"),
            ("PLUGIN_CLEANUP", "1"),
            ("PLUGIN_COMPRESSED_CACHING", "1"),
            ("PLUGIN_CONTEXT_SUB_PATH", "s"),
            ("PLUGIN_PLATFORM", "p"),
            ("PLUGIN_FORCE", "1"),
            ("PLUGIN_IMAGE_NAME_WITH_DIGEST_FILE", "n"),
            ("PLUGIN_IMAGE_NAME_TAG_WITH_DIGEST_FILE", "nt"),
            ("PLUGIN_INSECURE", "1"),
            ("PLUGIN_INSECURE_PULL", "1"),
            ("PLUGIN_INSECURE_REGISTRY", "i,j"),
            ("PLUGIN_LOG_FORMAT", "text"),
            ("PLUGIN_LOG_TIMESTAMP", "1"),
            ("PLUGIN_OCI_LAYOUT_PATH", "o"),
            ("PLUGIN_PUSH_RETRY", "2"),
            ("PLUGIN_REGISTRY_CERTIFICATE", "h=/c"),
            ("PLUGIN_REGISTRY_CLIENT_CERT", "h=/c,/k"),
            ("PLUGIN_SKIP_DEFAULT_REGISTRY_FALLBACK", "1"),
            ("PLUGIN_REPRODUCIBLE", "1"),
            ("PLUGIN_SINGLE_SNAPSHOT", "1"),
            ("PLUGIN_SKIP_PUSH_PERMISSION_CHECK", "1"),
            ("PLUGIN_SKIP_TLS_VERIFY_PULL", "1"),
            ("PLUGIN_SKIP_TLS_VERIFY_REGISTRY", "h:1"),
            ("PLUGIN_USE_NEW_RUN", "1"),
            ("PLUGIN_IGNORE_VAR_RUN", ""),
            ("PLUGIN_IGNORE_PATH", "/a, /b"),
            ("PLUGIN_IGNORE_PATHS", "/c,,"),
            ("PLUGIN_IMAGE_FS_EXTRACT_RETRY", "3"),
            ("PLUGIN_IMAGE_DOWNLOAD_RETRY", "4"),
        ];
        assert_eq!(
            words(Name::Docker, &all),
            "--destination=r:1 --build-arg A=1 --label=l=1 --registry-mirror=m --target=t --skip-tls-verify=true \
             --snapshot-mode=redo --cache=true --cache-repo=c --cache-ttl=24h … --verbosity=debug --skip-unused-stages \
             --tar-path=x.tar --cache-dir=/cd --cache-copy-layers --cache-run-layers=true --cleanup=true --compressed-caching=true \
             --context-sub-path=s --custom-platform=p --force --image-name-with-digest-file=n \
             --image-name-tag-with-digest-file=nt --insecure --insecure-pull --insecure-registry=i --insecure-registry=j \
             --log-format=text --log-timestamp --oci-layout-path=o --push-retry=2 --registry-certificate=h=/c \
             --registry-client-cert=h=/c,/k --skip-default-registry-fallback --reproducible --single-snapshot \
             --skip-push-permission-check --skip-tls-verify-pull --skip-tls-verify-registry=h:1 --use-new-run \
             --ignore-var-run=false --ignore-path=/a --ignore-path=/b --ignore-path=/c --image-fs-extract-retry=3 \
             --image-download-retry=4"
        );
    }

    #[test]
    fn what_the_original_gets_wrong_is_right() {
        let cache = ("PLUGIN_ENABLE_CACHE", "true");
        let registry = ("PLUGIN_REGISTRY", "r.io/p");
        let repository = ("PLUGIN_REPO", "i");
        for (name, variables, expected) in [
            (
                Name::Gar,
                &[registry, repository, cache][..],
                "--destination=r.io/p/i:latest --cache=true …",
            ),
            (
                Name::Gcr,
                &[repository, ("PLUGIN_TAR_PATH", "t")],
                "--destination=gcr.io/i:latest … --tar-path=t",
            ),
            (
                Name::Gar,
                &[registry, repository, ("PLUGIN_SKIP_TLS_VERIFY", "1")],
                "--destination=r.io/p/i:latest --skip-tls-verify=true …",
            ),
            (
                Name::Ecr,
                &[registry, repository, ("PLUGIN_IGNORE_PATHS", "/a,/b")],
                "--destination=r.io/p/i:latest … --ignore-path=/a --ignore-path=/b",
            ),
            (
                Name::Docker,
                &[("PLUGIN_REGISTRY", "https://r.io/ns"), repository, ("PLUGIN_EXPAND_REPO", "1")],
                "--destination=r.io/ns/i:latest …",
            ),
            (
                Name::Docker,
                &[("PLUGIN_REPO", "r.io/i"), ("PLUGIN_SKIP_TLS_VERIFY_REGISTRY", "true")],
                "--destination=r.io/i:latest … --skip-tls-verify-registry=r.io",
            ),
            (
                Name::Docker,
                &[repository, cache, ("PLUGIN_CACHE_RUN_LAYERS", "false")],
                "--destination=i:latest --cache=true … --cache-run-layers=false",
            ),
            (
                Name::Docker,
                &[NO_PUSH, repository, ("PLUGIN_IMAGE_NAME_WITH_DIGEST_FILE", "n")],
                "--destination=i:latest … --no-push --image-name-with-digest-file=n",
            ),
            (Name::Docker, &[NO_PUSH, ("PLUGIN_TAR_PATH", "t")], "… --no-push --tar-path=t"),
            (Name::Docker, &[("PLUGIN_DRY_RUN", "true")], "… --no-push"),
        ] {
            assert_eq!(words(name, variables), expected);
        }
    }

    #[test]
    fn secrets_and_keys_of_related_steps_are_understood() {
        assert_eq!(
            words(
                Name::Docker,
                &[
                    NO_PUSH,
                    ("PLUGIN_SECRETS_FROM_ENV", "foo_secret=FOO_SECRET_ENV_VAR,=x,x=,x"),
                    ("PLUGIN_SECRETS_FROM_FILE", "b=/path"),
                    ("PLUGIN_SECRET", "id=c,env=d"),
                    ("PLUGIN_SSH_AGENT_KEY", "PRIVATE"),
                    ("PLUGIN_BUILDX_OPTIONS", "--ssh=sshkey=/harness/id_ed25519"),
                    ("PLUGIN_BUILD_ARGS_FROM_ENV", "A,B"),
                    ("PLUGIN_ADD_HOST", "h:1.2.3.4"),
                ]
            ),
            "… --no-push --secret=id=foo_secret,env=FOO_SECRET_ENV_VAR --secret=id=b,src=/path --secret=id=c,env=d \
             --ssh=default=/kaniko/.ssh/agent-key --build-arg A --build-arg B --add-host=h=1.2.3.4 --ssh=sshkey=/harness/id_ed25519"
        );
    }

    #[test]
    fn a_repository_of_ecr_is_prepared_and_one_of_another_step_is_not() {
        let place =
            Place(BTreeMap::from([("/harness/Dockerfile", ""), ("/harness/policy.json", "{}")]));
        let plan = |name, variables: &[(&str, &str)]| {
            let variables =
                [&[("PLUGIN_REGISTRY", "r"), ("PLUGIN_REPO", "team/app")], variables].concat();
            settings(name, &variables, &place).plan(&place)
        };
        let make = ("PLUGIN_CREATE_REPOSITORY", "true");
        let policies = [
            ("PLUGIN_LIFECYCLE_POLICY", "policy.json"),
            ("PLUGIN_REPOSITORY_POLICY", "/harness/policy.json"),
        ];
        let all = plan(Name::Ecr, &[&[make][..], &policies].concat()).unwrap().repository.unwrap();
        assert_eq!(
            (all.registry.as_str(), all.name.as_str(), all.is_made),
            ("r", "team/app", true)
        );
        assert_eq!((all.lifecycle_policy, all.policy), (Some("{}".into()), Some("{}".into())));
        assert_eq!(plan(Name::Ecr, &[make, NO_PUSH]).unwrap().repository, None);
        assert!(!plan(Name::Ecr, &[policies[0], NO_PUSH]).unwrap().repository.unwrap().is_made);
        let azure = plan(Name::Acr, &[make]).unwrap();
        assert_eq!((azure.repository, azure.warnings.len()), (None, 1));
        let error = plan(Name::Ecr, &[("PLUGIN_LIFECYCLE_POLICY", "none")]).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot read the lifecycle-policy in none"),
            "{error}"
        );
    }

    #[test]
    fn the_portal_is_asked_for_an_artifact_of_azures_step() {
        let registry = ("PLUGIN_REGISTRY", "x.azurecr.io");
        let repository = ("PLUGIN_REPO", "x.azurecr.io/app");
        let (id, file) = (("SUBSCRIPTION_ID", "s"), ("PLUGIN_ARTIFACT_FILE", "a"));
        let plan = |name, variables: &[(&str, &str)]| {
            let place = Place::default();
            let variables = [&[registry, repository][..], variables].concat();
            settings(name, &variables, &place).plan(&place).unwrap()
        };
        let asked = plan(Name::Acr, &[id, file]);
        assert_eq!(asked.portal, Some(("x.azurecr.io".into(), "s".into())));
        assert!(asked.outputs.artifact("").contains("\"registryUrl\": \"\""));
        let told = asked.outputs.at("https://portal");
        assert!(told.artifact("").contains("\"registryUrl\": \"https://portal\""));
        for (name, variables) in
            [(Name::Acr, &[id][..]), (Name::Acr, &[file]), (Name::Docker, &[id, file])]
        {
            assert_eq!(plan(name, variables).portal, None, "{variables:?}");
        }
    }

    #[test]
    fn pushing_only_keeps_what_it_needs() {
        let place = Place(BTreeMap::from([("/harness/image.tar", "")]));
        let settings = settings(
            Name::Docker,
            &[
                ("PLUGIN_PUSH_ONLY", "true"),
                ("PLUGIN_SOURCE_TAR_PATH", "image.tar"),
                ("PLUGIN_REPO", "r.io/i"),
                ("PLUGIN_TAGS", "v1.2.3"),
                ("PLUGIN_EXPAND_TAG", "true"),
                ("PLUGIN_INSECURE", "true"),
                ("PLUGIN_PUSH_RETRY", "3"),
            ],
            &place,
        );
        let plan = settings.plan(&place).unwrap();
        assert_eq!(
            plan.argv.join(" "),
            "push image.tar --destination=r.io/i:1 --destination=r.io/i:1.2 --destination=r.io/i:1.2.3 \
             --digest-file=/kaniko/digest-file --insecure --push-retry=3"
        );
        assert_eq!(plan.outputs.images, ["r.io/i:1", "r.io/i:1.2", "r.io/i:1.2.3"]);
    }

    #[test]
    fn mistakes_are_told_in_the_originals_words() {
        for (variables, expected) in [
            (
                &[NO_PUSH, ("PLUGIN_PUSH_ONLY", "1")][..],
                "inputs no-push and push-only cannot be used together. please define only one",
            ),
            (&[], "repository name to publish image must be specified"),
            (
                &[("PLUGIN_REPO", "r"), ("PLUGIN_PUSH_ONLY", "1"), ("PLUGIN_SOURCE_TAR_PATH", "x")],
                "image tarball does not exist at path: x",
            ),
            (
                &[("PLUGIN_REPO", "r"), ("PLUGIN_DOCKERFILE", "./a/../D")],
                "dockerfile does not exist at path: /harness/D",
            ),
            (
                &[("PLUGIN_REPO", "r"), ("PLUGIN_DOCKERFILE", "")],
                "dockerfile does not exist at path: /harness",
            ),
            (
                &[("PLUGIN_REPO", "r"), ("PLUGIN_SKIP_TLS_VERIFY_REGISTRY", "yes")],
                "could not parse yes as bool value for flag skip-tls-verify-registry: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
        ] {
            assert_eq!(plan(Name::Docker, variables), format!("error: {expected}"));
        }
    }

    #[test]
    fn a_variable_that_changes_nothing_is_told() {
        let settings = settings(
            Name::Docker,
            &[
                NO_PUSH,
                ("PLUGIN_GARBAGE", "yoyo"),
                ("PLUGIN_DAEMON_OFF", "true"),
                ("PLUGIN_JSON_KEY", "{}"),
                ("PLUGIN_CUSTOM_DNS", "1.1.1.1"),
                ("OTHER", "x"),
            ],
            &Place::default(),
        );
        assert_eq!(
            settings.plan(&Place::default()).unwrap().warnings,
            [
                "PLUGIN_DAEMON_OFF is ignored: there is no daemon",
                "PLUGIN_GARBAGE is ignored: kaniko-docker knows no such variable",
                "PLUGIN_JSON_KEY is ignored: kaniko-docker knows no such variable",
                "PLUGIN_CUSTOM_DNS has no effect: a RUN uses the pod's resolver, which `dnsConfig` of the pod sets",
            ]
        );
    }

    #[test]
    fn the_command_line_wins_over_variables() {
        let variables = BTreeMap::from([
            ("PLUGIN_TAGS".to_owned(), "a".to_owned()),
            ("PLUGIN_NO_PUSH".into(), "false".into()),
        ]);
        let arguments = ["--no-push", "-tags", "b,c", "--tags=d", "--tar-path=t", "--repo", "r"]
            .map(str::to_owned);
        let settings =
            Settings::read(Name::Docker, &variables, &arguments, &Place::default()).unwrap();
        assert_eq!(settings.list("tags"), ["b,c", "d"]);
        assert!(settings.is("no-push"));
        for (arguments, expected) in [
            (&["--nope"][..], "flag provided but not defined: --nope"),
            (&["stray"], "flag provided but not defined: stray"),
            (&["--repo"], "flag needs an argument: -repo"),
            (
                &["--no-push=x"],
                "could not parse x as bool value for flag no-push: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
            let error = Settings::read(Name::Docker, &variables, &arguments, &Place::default())
                .unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_file_gives_tags_where_no_variable_does() {
        let place = Place(BTreeMap::from([
            ("/harness/.tags", "1.0, latest\n"),
            ("/harness/plugin.env", "PLUGIN_REPO=new\nPLUGIN_TARGET=t\n"),
        ]));
        let read = |variables: &[(&str, &str)]| settings(Name::Docker, variables, &place);
        assert_eq!(read(&[]).list("tags"), ["1.0", "latest"]);
        assert_eq!(read(&[("PLUGIN_TAGS", "z")]).list("tags"), ["z"]);
        let settings = read(&[("PLUGIN_ENV_FILE", "plugin.env"), ("PLUGIN_REPO", "old")]);
        assert_eq!((settings.text("repo"), settings.text("target")), ("old", "t"));
        let variables = BTreeMap::from([("PLUGIN_ENV_FILE".to_owned(), "nope.env".to_owned())]);
        let error = Settings::read(Name::Docker, &variables, &[], &place).unwrap_err();
        assert_eq!(error.to_string(), "open nope.env: no such file or directory");
    }
}
