//! The table of inputs. Each is a flag, and takes its value from the first of its variables that is set, even to nothing.

use crate::name::Name;

/// An input of the step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// On the command line, without the dashes.
    pub(crate) name: &'static str,
    /// Variables that give the value, with commas between them; the first that is set counts.
    pub(crate) variables: &'static str,
    pub(crate) kind: Kind,
    /// The value if nothing gives one.
    pub(crate) default: &'static str,
    /// The steps that have it.
    pub(crate) of: Of,
    /// What it is, for `--help`.
    pub(crate) about: &'static str,
}

/// How the text of an input is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Boolean,
    Integer,
    /// With commas.
    List,
    /// With semicolons.
    SemicolonList,
}

/// Which steps have an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    All,
    Only(&'static [Name]),
}

impl Flag {
    pub(crate) fn is_of(&self, name: Name) -> bool {
        match self.of {
            Of::All => true,
            Of::Only(names) => names.contains(&name),
        }
    }
}

const NOT_ECR: Of = Of::Only(&[Name::Docker, Name::Gcr, Name::Gar, Name::Acr]);
const DOCKER: Of = Of::Only(&[Name::Docker]);
const ECR: Of = Of::Only(&[Name::Ecr]);
const GCR: Of = Of::Only(&[Name::Gcr]);
const GOOGLE: Of = Of::Only(&[Name::Gcr, Name::Gar]);
const ACR: Of = Of::Only(&[Name::Acr]);
const OIDC: Of = Of::Only(&[Name::Ecr, Name::Acr]);
const PLAIN_REGISTRY: Of = Of::Only(&[Name::Ecr, Name::Gar, Name::Acr]);

const fn flag(
    name: &'static str,
    variables: &'static str,
    kind: Kind,
    default: &'static str,
    of: Of,
    about: &'static str,
) -> Flag {
    Flag { name, variables, kind, default, of, about }
}

use Kind::{Boolean, Integer, List, SemicolonList, Text};
use Of::All;

/// Every input: those of the original under its names, then those that only this program has.
#[rustfmt::skip]
pub(crate) const FLAGS: &[Flag] = &[
    flag("dockerfile", "PLUGIN_DOCKERFILE", Text, "Dockerfile", All, "the Dockerfile, from the working directory"),
    flag("context", "PLUGIN_CONTEXT", Text, ".", All, "the directory of the build context"),
    flag("drone-commit-ref", "DRONE_COMMIT_REF", Text, "", All, "the commit's ref, for auto-tag"),
    flag("drone-repo-branch", "DRONE_REPO_BRANCH", Text, "", All, "the default branch, for auto-tag"),
    flag("tags", "PLUGIN_TAGS", List, "latest", All, "the tags of the image; otherwise those in the file .tags"),
    flag("expand-tag", "PLUGIN_EXPAND_TAG", Boolean, "", All, "make 1, 1.2 and 1.2.3 of the tag v1.2.3"),
    flag("auto-tag", "PLUGIN_AUTO_TAG", Boolean, "", All, "make the tags from the commit's ref"),
    flag("auto-tag-suffix", "PLUGIN_AUTO_TAG_SUFFIX", Text, "", All, "what auto-tag puts behind each tag"),
    flag("args", "PLUGIN_BUILD_ARGS", List, "", All, "build arguments"),
    flag("args-new", "PLUGIN_BUILD_ARGS_NEW", SemicolonList, "", All, "build arguments that may have commas, with semicolons between them"),
    flag("plugin-multiple-build-agrs", "PLUGIN_MULTIPLE_BUILD_ARGS", Boolean, "", All, "take args-new and not args"),
    flag("target", "PLUGIN_TARGET", Text, "", All, "the stage to build"),
    flag("repo", "PLUGIN_REPO", Text, "", All, "the repository that the image is pushed to"),
    flag("registry", "PLUGIN_REGISTRY", Text, crate::repository::HUB, DOCKER, "the registry that the login is for"),
    flag("registry", "PLUGIN_REGISTRY,BASE_REGISTRY", Text, "gcr.io", GCR, "the registry"),
    flag("registry", "PLUGIN_REGISTRY", Text, "", PLAIN_REGISTRY, "the registry"),
    flag("expand-repo", "PLUGIN_EXPAND_REPO", Boolean, "", DOCKER, "put the registry before repo and cache-repo"),
    flag("registry-mirrors", "PLUGIN_REGISTRY_MIRRORS", List, "", All, "mirrors of Docker Hub"),
    flag("username", "PLUGIN_USERNAME", Text, "", DOCKER, "the user who pushes"),
    flag("password", "PLUGIN_PASSWORD", Text, "", DOCKER, "the password of this user"),
    flag("dockerconfig", "PLUGIN_CONFIG", Text, "", DOCKER, "a config.json in the place of all logins"),
    flag("base-image-registry", "PLUGIN_DOCKER_REGISTRY,PLUGIN_BASE_IMAGE_REGISTRY,DOCKER_REGISTRY", Text, "", NOT_ECR, "the registry of base images"),
    flag("base-image-username", "PLUGIN_DOCKER_USERNAME,PLUGIN_BASE_IMAGE_USERNAME,DOCKER_USERNAME", Text, "", NOT_ECR, "the user who pulls them"),
    flag("base-image-password", "PLUGIN_DOCKER_PASSWORD,PLUGIN_BASE_IMAGE_PASSWORD,DOCKER_PASSWORD", Text, "", NOT_ECR, "the password of this user"),
    flag("docker-registry", "PLUGIN_DOCKER_REGISTRY,DOCKER_REGISTRY,PLUGIN_BASE_IMAGE_REGISTRY", Text, "", ECR, "the registry of base images"),
    flag("docker-username", "PLUGIN_USERNAME,PLUGIN_DOCKER_USERNAME,PLUGIN_BASE_IMAGE_USERNAME,DOCKER_USERNAME", Text, "", ECR, "the user who pulls them"),
    flag("docker-password", "PLUGIN_PASSWORD,PLUGIN_DOCKER_PASSWORD,PLUGIN_BASE_IMAGE_PASSWORD,DOCKER_PASSWORD", Text, "", ECR, "the password of this user"),
    flag("json-key", "PLUGIN_JSON_KEY", Text, "", GOOGLE, "the key of a service account; without it the pod's own identity"),
    flag("region", "PLUGIN_REGION", Text, "us-east-1", ECR, "the region of the registry"),
    flag("access-key", "PLUGIN_ACCESS_KEY", Text, "", ECR, "the id of an access key; without it the pod's own identity"),
    flag("secret-key", "PLUGIN_SECRET_KEY", Text, "", ECR, "the secret of the access key"),
    flag("assume-role", "PLUGIN_ASSUME_ROLE", Text, "", ECR, "the role to assume"),
    flag("external-id", "PLUGIN_EXTERNAL_ID", Text, "", ECR, "the external id for assuming it"),
    flag("create-repository", "PLUGIN_CREATE_REPOSITORY", Boolean, "", OIDC, "make the repository if it is not there"),
    flag("lifecycle-policy", "PLUGIN_LIFECYCLE_POLICY", Text, "", OIDC, "the file of the repository's lifecycle policy"),
    flag("repository-policy", "PLUGIN_REPOSITORY_POLICY", Text, "", OIDC, "the file of the repository's policy"),
    flag("oidc-token-id", "PLUGIN_OIDC_TOKEN_ID", Text, "", OIDC, "an OIDC token in the place of a key"),
    flag("client-secret", "CLIENT_SECRET,PLUGIN_CLIENT_SECRET", Text, "", ACR, "the secret of the application"),
    flag("client-cert", "CLIENT_CERTIFICATE,PLUGIN_CLIENT_CERTIFICATE", Text, "", ACR, "the certificate of the application, in base64"),
    flag("tenant-id", "TENANT_ID,AZURE_TENANT_ID,PLUGIN_TENANT_ID", Text, "", ACR, "the directory"),
    flag("subscription-id", "SUBSCRIPTION_ID,PLUGIN_SUBSCRIPTION_ID", Text, "", ACR, "the subscription"),
    flag("client-id", "CLIENT_ID,AZURE_CLIENT_ID,PLUGIN_CLIENT_ID,AZURE_APP_ID", Text, "", ACR, "the application"),
    flag("azure-authority-host", "AZURE_AUTHORITY_HOST", Text, "", ACR, "where the directory gives tokens"),
    flag("custom-labels", "PLUGIN_CUSTOM_LABELS", List, "", All, "labels of the image"),
    flag("skip-tls-verify", "PLUGIN_SKIP_TLS_VERIFY", Boolean, "", All, "do not verify certificates of registries"),
    flag("snapshot-mode", "PLUGIN_SNAPSHOT_MODE", Text, "", All, "full, redo or time"),
    flag("enable-cache", "PLUGIN_ENABLE_CACHE", Boolean, "", All, "use and keep layers"),
    flag("cache-repo", "PLUGIN_CACHE_REPO", Text, "", All, "where layers are kept"),
    flag("cache-ttl", "PLUGIN_CACHE_TTL", Integer, "", All, "how old they may be, in hours"),
    flag("artifact-file", "PLUGIN_ARTIFACT_FILE", Text, "", All, "where to describe what was pushed, as JSON"),
    flag("output-file", "DRONE_OUTPUT", Text, "", All, "where to write the digest as a variable"),
    flag("no-push", "PLUGIN_NO_PUSH", Boolean, "", All, "do not push"),
    flag("push-only", "PLUGIN_PUSH_ONLY", Boolean, "", All, "build nothing and push the image in source-tar-path"),
    flag("source-tar-path", "PLUGIN_SOURCE_TAR_PATH", Text, "", All, "the image that push-only pushes"),
    flag("tar-path", "PLUGIN_TAR_PATH,PLUGIN_DESTINATION_TAR_PATH", Text, "", All, "also write the image as a tar"),
    flag("verbosity", "PLUGIN_VERBOSITY", Text, "", All, "which messages to print"),
    flag("platform", "PLUGIN_PLATFORM,PLUGIN_CUSTOM_PLATFORM", Text, "", All, "the platform to build for"),
    flag("skip-unused-stages", "PLUGIN_SKIP_UNUSED_STAGES", Boolean, "", All, "unused stages are always skipped"),
    flag("cache-dir", "PLUGIN_CACHE_DIR", Text, "", All, "the directory of warmed base images"),
    flag("cache-copy-layers", "PLUGIN_CACHE_COPY_LAYERS", Boolean, "", All, "keep layers of COPY and ADD, too"),
    flag("cache-run-layers", "PLUGIN_CACHE_RUN_LAYERS", Boolean, "", All, "keep layers of RUN"),
    flag("cleanup", "PLUGIN_CLEANUP", Boolean, "", All, "clear the filesystem after the build"),
    flag("compressed-caching", "PLUGIN_COMPRESSED_CACHING", Boolean, "", All, "has no effect"),
    flag("context-sub-path", "PLUGIN_CONTEXT_SUB_PATH", Text, "", All, "a directory in the context"),
    flag("force", "PLUGIN_FORCE", Boolean, "", All, "build although this does not look like a container"),
    flag("image-name-with-digest-file", "PLUGIN_IMAGE_NAME_WITH_DIGEST_FILE", Text, "", All, "write REPOSITORY@DIGEST to this file"),
    flag("image-name-tag-with-digest-file", "PLUGIN_IMAGE_NAME_TAG_WITH_DIGEST_FILE", Text, "", All, "write REPOSITORY:TAG@DIGEST to this file"),
    flag("insecure", "PLUGIN_INSECURE", Boolean, "", All, "push with plain HTTP"),
    flag("insecure-pull", "PLUGIN_INSECURE_PULL", Boolean, "", All, "pull with plain HTTP"),
    flag("insecure-registry", "PLUGIN_INSECURE_REGISTRY", Text, "", All, "registries with plain HTTP"),
    flag("log-format", "PLUGIN_LOG_FORMAT", Text, "", All, "text, color or json"),
    flag("log-timestamp", "PLUGIN_LOG_TIMESTAMP", Boolean, "", All, "messages have a time"),
    flag("oci-layout-path", "PLUGIN_OCI_LAYOUT_PATH", Text, "", All, "also write the image as an OCI layout"),
    flag("push-retry", "PLUGIN_PUSH_RETRY", Integer, "", All, "further attempts to push"),
    flag("registry-certificate", "PLUGIN_REGISTRY_CERTIFICATE", Text, "", All, "certificates to trust: HOST=FILE"),
    flag("registry-client-cert", "PLUGIN_REGISTRY_CLIENT_CERT", Text, "", All, "a certificate to show: HOST=CERTIFICATE,KEY"),
    flag("skip-default-registry-fallback", "PLUGIN_SKIP_DEFAULT_REGISTRY_FALLBACK", Boolean, "", All, "ask mirrors only"),
    flag("reproducible", "PLUGIN_REPRODUCIBLE", Boolean, "", All, "make the same image of the same files"),
    flag("single-snapshot", "PLUGIN_SINGLE_SNAPSHOT", Boolean, "", All, "one layer for each stage"),
    flag("skip-push-permission-check", "PLUGIN_SKIP_PUSH_PERMISSION_CHECK", Boolean, "", All, "do not ask before the build whether a push is allowed"),
    flag("skip-tls-verify-pull", "PLUGIN_SKIP_TLS_VERIFY_PULL", Boolean, "", All, "do not verify certificates for pulls"),
    flag("skip-tls-verify-registry", "PLUGIN_SKIP_TLS_VERIFY_REGISTRY", List, "", All, "true: do not verify the certificate of the registry; or the hosts whose certificates are not verified"),
    flag("use-new-run", "PLUGIN_USE_NEW_RUN", Boolean, "", All, "has no effect"),
    flag("ignore-var-run", "PLUGIN_IGNORE_VAR_RUN", Boolean, "", All, "keep /var/run out of the image"),
    flag("ignore-path", "PLUGIN_IGNORE_PATH", List, "", All, "paths to keep out of the image"),
    flag("ignore-paths", "PLUGIN_IGNORE_PATHS", List, "", All, "the same"),
    flag("image-fs-extract-retry", "PLUGIN_IMAGE_FS_EXTRACT_RETRY", Integer, "", All, "further attempts for a layer"),
    flag("image-download-retry", "PLUGIN_IMAGE_DOWNLOAD_RETRY", Integer, "", All, "further attempts for a manifest"),

    flag("dry-run", "PLUGIN_DRY_RUN", Boolean, "", All, "the same as no-push"),
    flag("secrets-from-env", "PLUGIN_SECRETS_FROM_ENV", List, "", All, "secrets for RUN --mount=type=secret: ID=VARIABLE"),
    flag("secrets-from-file", "PLUGIN_SECRETS_FROM_FILE", List, "", All, "secrets for RUN --mount=type=secret: ID=FILE"),
    flag("secret", "PLUGIN_SECRET", Text, "", All, "a secret: id=ID,src=FILE or id=ID,env=VARIABLE"),
    flag("ssh-agent-key", "PLUGIN_SSH_AGENT_KEY", Text, "", All, "a private key for RUN --mount=type=ssh"),
    flag("buildx-options", "PLUGIN_BUILDX_OPTIONS", List, "", All, "options of docker buildx build, with commas between them"),
    flag("buildx-options-semicolon", "PLUGIN_BUILDX_OPTIONS_SEMICOLON", SemicolonList, "", All, "the same with semicolons between them"),
    flag("args-from-env", "PLUGIN_BUILD_ARGS_FROM_ENV", List, "", All, "build arguments that have the value of the variable of their name"),
    flag("add-host", "PLUGIN_ADD_HOST", List, "", All, "hosts that a RUN knows by name: NAME:IP"),
    flag("no-cache", "PLUGIN_NO_CACHE", Boolean, "", All, "build without the cache"),
    flag("custom-dns", "PLUGIN_CUSTOM_DNS", List, "", All, "has no effect: a RUN uses the pod's resolver"),
    flag("custom-dns-search", "PLUGIN_CUSTOM_DNS_SEARCH", List, "", All, "has no effect: a RUN uses the pod's resolver"),
];

/// Variables of related steps that change nothing here, and why.
pub(crate) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("PLUGIN_DAEMON_OFF", "there is no daemon"),
    ("PLUGIN_PULL_IMAGE", "base images are always looked up"),
    ("PLUGIN_PURGE", "nothing is left behind"),
    ("PLUGIN_METADATA_FILE", "the digest is in DRONE_OUTPUT and in PLUGIN_ARTIFACT_FILE"),
    ("PLUGIN_BUILDER_DRIVER_OPTS", "there is no builder to be configured"),
    ("PLUGIN_BUILDER_DRIVER_OPTS_NEW", "there is no builder to be configured"),
    ("PLUGIN_CACHE_METRICS_FILE", "the cache is PLUGIN_ENABLE_CACHE and PLUGIN_CACHE_REPO"),
    ("PLUGIN_CACHE_FROM", "the cache is PLUGIN_ENABLE_CACHE and PLUGIN_CACHE_REPO"),
    ("PLUGIN_CACHE_TO", "the cache is PLUGIN_ENABLE_CACHE and PLUGIN_CACHE_REPO"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_step_has_each_input_once() {
        for name in Name::ALL {
            let flags: Vec<&str> =
                FLAGS.iter().filter(|flag| flag.is_of(name)).map(|flag| flag.name).collect();
            let distinct: BTreeSet<&&str> = flags.iter().collect();
            assert_eq!(flags.len(), distinct.len(), "{name:?}");
        }
    }

    #[test]
    fn a_variable_has_a_meaning_or_a_reason_and_not_both() {
        for (variable, _) in WITHOUT_EFFECT {
            let has_meaning =
                |flag: &&Flag| flag.variables.split(',').any(|known| known == *variable);
            assert_eq!(FLAGS.iter().find(has_meaning).map(|flag| flag.name), None, "{variable}");
        }
    }
}
