//! Pods as a manifest of Kubernetes says, read from the YAML that users read.

#[expect(
    clippy::struct_field_names,
    clippy::enum_variant_names,
    reason = "the names are those of Kubernetes"
)]
mod objects;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use serde_json::Value;

use self::objects::{Container, Item, KeyRef, Metadata, Object, PodSpec, ValueFrom, Volume};
use super::spec::DEFAULT_CAPABILITIES;
use super::{Pod, PodOutput, Profile};

/// What stands for an image: its root and environment, and what its config starts.
#[derive(Clone, Debug)]
pub struct ImageStandIn {
    /// The root directory, the environment and the working directory.
    pub pod: Pod,
    /// The words that `args` are added to when there is no `command`.
    pub entrypoint: Vec<String>,
}

/// A namespace of a cluster with one node: this machine.
///
/// What a manifest says is done, or refused by its name. Scheduling, retries and cleaning up mean nothing for one pod that
/// runs once; everything about them is read and has no effect. A container that names no seccomp profile gets
/// `RuntimeDefault`, as where a kubelet has that default.
#[derive(Debug, Default)]
pub struct Cluster {
    images: BTreeMap<String, ImageStandIn>,
    claims: BTreeMap<String, PathBuf>,
}

impl Cluster {
    /// A cluster without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what stands for an image.
    #[must_use]
    pub fn image(mut self, name: &str, image: ImageStandIn) -> Self {
        self.images.insert(name.to_owned(), image);
        self
    }

    /// The directory behind a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, dir: impl Into<PathBuf>) -> Self {
        self.claims.insert(name.to_owned(), dir.into());
        self
    }

    /// Runs every Pod and Job of a manifest in its order, and each one's containers one after the other, the
    /// `initContainers` first. Returns what the containers gave, up to and including the first one that failed.
    ///
    /// # Errors
    ///
    /// Fails if the manifest has something that is not known here, or a pod cannot be set up.
    pub fn run(&self, yaml: &str) -> anyhow::Result<Vec<PodOutput>> {
        let manifest = Manifest::read(yaml)?;
        let mut outputs = Vec::new();
        for (metadata, spec, deadline) in &manifest.pods {
            let volumes = crate::scratch_dir("volumes-")?;
            for volume in &spec.volumes {
                manifest.fill(volume, &volumes.path().join(&volume.name))?;
            }
            for container in spec.init_containers.iter().chain(&spec.containers) {
                let (pod, command) = self
                    .container(&manifest, metadata, spec, container, volumes.path())
                    .with_context(|| format!("container `{}`", container.name))?;
                let pod = deadline.map_or(pod.clone(), |time| pod.timeout(time));
                let output = pod.run(command)?;
                let failed = output.code != 0;
                outputs.push(output);
                if failed {
                    return Ok(outputs);
                }
            }
        }
        Ok(outputs)
    }

    fn container(
        &self,
        manifest: &Manifest,
        metadata: &Metadata,
        spec: &PodSpec,
        container: &Container,
        volumes: &Path,
    ) -> anyhow::Result<(Pod, Vec<String>)> {
        let image = self
            .images
            .get(&container.image)
            .with_context(|| format!("no image `{}` in this cluster", container.image))?;
        let mut pod = secured(image.pod.clone(), spec, container)?;
        for alias in &spec.host_aliases {
            pod = pod.hosts_line(&format!("{}\t{}", alias.ip, alias.hostnames.join(" ")));
        }
        let mut variables = BTreeMap::new();
        for variable in &container.env {
            let value = match (&variable.value, &variable.value_from) {
                (Some(value), None) => expanded(value, &variables),
                (None, Some(source)) => match manifest.value(source, metadata, spec)? {
                    Some(value) => value,
                    None => continue,
                },
                (None, None) => String::new(),
                (Some(_), Some(_)) => bail!("`{}` has a value and a valueFrom", variable.name),
            };
            pod = pod.env(&variable.name, &value);
            variables.insert(variable.name.clone(), value);
        }
        if let Some(dir) = &container.working_dir {
            pod = pod.work_dir(dir);
        }
        for (resource, limit) in &container.resources.limits {
            let amount = quantity(limit)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a limit of memory"
            )]
            match resource.as_str() {
                "memory" => pod = pod.memory(amount as u64),
                "cpu" => pod = pod.cpus(amount),
                other => bail!("the limit `{other}` is not known"),
            }
        }
        for mounted in &container.volume_mounts {
            let volume = spec
                .volumes
                .iter()
                .find(|volume| volume.name == mounted.name)
                .with_context(|| format!("there is no volume `{}`", mounted.name))?;
            let claim = volume.persistent_volume_claim.as_ref();
            let mut source = match claim {
                Some(claim) => self
                    .claims
                    .get(&claim.claim_name)
                    .with_context(|| format!("no claim `{}`", claim.claim_name))?
                    .clone(),
                None => volumes.join(&volume.name),
            };
            if let Some(path) = &mounted.sub_path {
                source = source.join(path);
            }
            let written = volume.empty_dir.is_some() || claim.is_some_and(|claim| !claim.read_only);
            pod = if written && !mounted.read_only {
                pod.bind(source, &mounted.mount_path)
            } else {
                pod.bind_read_only(source, &mounted.mount_path)
            };
        }
        let start =
            if container.command.is_empty() { &image.entrypoint } else { &container.command };
        let words = start.iter().chain(&container.args);
        Ok((pod, words.map(|word| expanded(word, &variables)).collect()))
    }
}

/// The documents of a YAML file.
///
/// # Errors
///
/// Fails if it is no YAML, or a key is there twice.
pub fn yaml(text: &str) -> anyhow::Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).context("cannot read the YAML")
}

/// The objects of one file.
struct Manifest {
    pods: Vec<(Metadata, PodSpec, Option<Duration>)>,
    /// The contents of config maps and secrets, by kind and name.
    data: BTreeMap<(&'static str, String), BTreeMap<String, String>>,
}

impl Manifest {
    fn read(yaml: &str) -> anyhow::Result<Self> {
        let mut manifest = Self { pods: Vec::new(), data: BTreeMap::new() };
        for document in self::yaml(yaml)? {
            let object = serde_json::from_value(document.clone()).with_context(|| {
                format!(
                    "cannot do what {} `{}` says",
                    document["kind"], document["metadata"]["name"]
                )
            })?;
            let (version, expected) = match &object {
                Object::Pod(object) => (&object.api_version, "v1"),
                Object::Job(object) => (&object.api_version, "batch/v1"),
                Object::ConfigMap(object) | Object::Secret(object) => (&object.api_version, "v1"),
                Object::PersistentVolumeClaim(object) => (&object.api_version, "v1"),
                Object::ServiceAccount(object) | Object::Namespace(object) => {
                    (&object.api_version, "v1")
                }
            };
            ensure!(version == expected, "apiVersion is `{version}` and not `{expected}`");
            match object {
                Object::Pod(pod) => manifest.pods.push((pod.metadata, pod.spec, None)),
                Object::Job(job) => {
                    let mut metadata = job.spec.template.metadata;
                    metadata.name = job.metadata.name;
                    metadata.namespace = job.metadata.namespace;
                    let deadline = job.spec.active_deadline_seconds.map(Duration::from_secs);
                    manifest.pods.push((metadata, job.spec.template.spec, deadline));
                }
                Object::ConfigMap(map) => {
                    ensure!(
                        map.string_data.is_empty() && map.kind_of_secret.is_none(),
                        "a ConfigMap has neither `stringData` nor `type`"
                    );
                    manifest.data.insert(("ConfigMap", map.metadata.name), map.data);
                }
                Object::Secret(secret) => {
                    let mut data = secret.string_data;
                    for (key, value) in secret.data {
                        let bytes = base64::engine::general_purpose::STANDARD
                            .decode(value)
                            .with_context(|| format!("`{key}` is not base64"))?;
                        data.entry(key).or_insert(String::from_utf8(bytes)?);
                    }
                    manifest.data.insert(("Secret", secret.metadata.name), data);
                }
                Object::PersistentVolumeClaim(_)
                | Object::ServiceAccount(_)
                | Object::Namespace(_) => {}
            }
        }
        for (metadata, spec, _) in &manifest.pods {
            ensure!(
                spec.restart_policy.as_deref() == Some("Never"),
                "`{}` would be restarted: restartPolicy is not `Never`",
                metadata.name
            );
            ensure!(
                spec.automount_service_account_token != Some(false),
                "automountServiceAccountToken: false is not known here"
            );
        }
        Ok(manifest)
    }

    fn data(&self, kind: &'static str, name: &str) -> anyhow::Result<&BTreeMap<String, String>> {
        self.data
            .get(&(kind, name.to_owned()))
            .with_context(|| format!("there is no {kind} `{name}` in the manifest"))
    }

    fn key(&self, kind: &'static str, wanted: &KeyRef) -> anyhow::Result<Option<String>> {
        let found = self.data(kind, &wanted.name).ok().and_then(|data| data.get(&wanted.key));
        ensure!(
            found.is_some() || wanted.optional,
            "there is no key `{}` of {kind} `{}`",
            wanted.key,
            wanted.name
        );
        Ok(found.cloned())
    }

    fn value(
        &self,
        source: &ValueFrom,
        metadata: &Metadata,
        spec: &PodSpec,
    ) -> anyhow::Result<Option<String>> {
        match source {
            ValueFrom::SecretKeyRef(key) => self.key("Secret", key),
            ValueFrom::ConfigMapKeyRef(key) => self.key("ConfigMap", key),
            ValueFrom::FieldRef(field) => {
                let quoted = |map: &BTreeMap<String, String>, prefix: &str| {
                    let key = field.field_path.strip_prefix(prefix)?.strip_suffix("']")?;
                    map.get(key).cloned()
                };
                let value = match field.field_path.as_str() {
                    "metadata.name" => Some(metadata.name.clone()),
                    "metadata.namespace" => {
                        Some(metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()))
                    }
                    "spec.serviceAccountName" => Some(
                        spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
                    ),
                    _ => quoted(&metadata.labels, "metadata.labels['")
                        .or_else(|| quoted(&metadata.annotations, "metadata.annotations['")),
                };
                let value = value.with_context(|| format!("no field `{}`", field.field_path))?;
                Ok(Some(value))
            }
        }
    }

    /// Makes the directory of a volume; a claim has its own.
    fn fill(&self, volume: &Volume, dir: &Path) -> anyhow::Result<()> {
        let name = &volume.name;
        std::fs::create_dir(dir)?;
        let mut sources = 0;
        if volume.empty_dir.is_some() {
            sources += 1;
            crate::place::set_mode(dir, 0o777)?;
        }
        if let Some(map) = &volume.config_map {
            sources += 1;
            linked(dir, self.data("ConfigMap", &map.name)?, &map.items)?;
        }
        if let Some(secret) = &volume.secret {
            sources += 1;
            linked(dir, self.data("Secret", &secret.secret_name)?, &secret.items)?;
        }
        if let Some(projected) = &volume.projected {
            sources += 1;
            let mut data = BTreeMap::new();
            for source in &projected.sources {
                let token = &source.service_account_token;
                let audience = token.audience.as_deref().unwrap_or("the-cluster");
                data.insert(token.path.clone(), format!("a-token-for-{audience}"));
            }
            linked(dir, &data, &[])?;
        }
        sources += u32::from(volume.persistent_volume_claim.is_some());
        ensure!(sources == 1, "the volume `{name}` has {sources} sources");
        Ok(())
    }
}

/// Writes files as a kubelet does: behind two links, so that all can be replaced at once.
fn linked(dir: &Path, data: &BTreeMap<String, String>, items: &[Item]) -> anyhow::Result<()> {
    let chosen: Vec<(&str, &str)> = if items.is_empty() {
        data.keys().map(|key| (key.as_str(), key.as_str())).collect()
    } else {
        items.iter().map(|item| (item.key.as_str(), item.path.as_str())).collect()
    };
    std::fs::create_dir(dir.join("..2020_01_01"))?;
    std::os::unix::fs::symlink("..2020_01_01", dir.join("..data"))?;
    for (key, path) in chosen {
        ensure!(!path.contains('/'), "`{path}`: directories in a volume are not known here");
        let text = data.get(key).with_context(|| format!("there is no key `{key}`"))?;
        std::fs::write(dir.join("..data").join(path), text)?;
        std::os::unix::fs::symlink(Path::new("..data").join(path), dir.join(path))?;
    }
    Ok(())
}

/// Applies the security contexts; the container's goes before the pod's.
fn secured(mut pod: Pod, spec: &PodSpec, container: &Container) -> anyhow::Result<Pod> {
    let (outer, own) = (&spec.security_context, &container.security_context);
    ensure!(
        outer.capabilities.is_none()
            && outer.privileged.is_none()
            && outer.allow_privilege_escalation.is_none()
            && outer.read_only_root_filesystem.is_none(),
        "the pod's securityContext has what only a container's may have"
    );
    ensure!(own.privileged != Some(true), "`privileged: true` is not known here");
    let user = own.run_as_user.or(outer.run_as_user).unwrap_or(0);
    let group = own.run_as_group.or(outer.run_as_group).unwrap_or(0);
    ensure!(
        own.run_as_non_root.or(outer.run_as_non_root) != Some(true) || user != 0,
        "runAsNonRoot, but the user is 0"
    );
    pod = pod.user(user, group);
    if !spec.host_users {
        pod = pod.profile(Profile::UserNamespace);
    }
    let changes = own.capabilities.clone().unwrap_or_default();
    let mut held: Vec<String> = DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    let all = |names: &[String]| names.iter().any(|name| name == "ALL");
    ensure!(!all(&changes.add), "capabilities: `add: [ALL]` is not known here");
    let dropped: Vec<String> = changes.drop.iter().map(|name| format!("CAP_{name}")).collect();
    held.retain(|name| !all(&changes.drop) && !dropped.contains(name));
    for name in &changes.add {
        let name = format!("CAP_{name}");
        if !held.contains(&name) {
            held.push(name);
        }
    }
    pod = pod.capabilities(held);
    if own.allow_privilege_escalation == Some(false) {
        pod = pod.no_new_privileges();
    }
    if own.read_only_root_filesystem == Some(true) {
        pod = pod.read_only_root();
    }
    let profile = own.seccomp_profile.as_ref().or(outer.seccomp_profile.as_ref());
    match profile.map(|profile| profile.kind.as_str()) {
        None | Some("RuntimeDefault") => Ok(pod),
        Some("Unconfined") => Ok(pod.unconfined()),
        Some(other) => bail!("the seccomp profile `{other}` is not known here"),
    }
}

/// Replaces `$(NAME)` where the name is known, and `$$` by `$`, as Kubernetes does in commands and values.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((value, after)) =
            name.and_then(|(name, after)| Some((variables.get(name)?, after)))
        {
            result.push_str(value);
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

/// `500Mi`, `400m`, `2`.
fn quantity(value: &Value) -> anyhow::Result<f64> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let units = [
        ("Ki", 1024.0),
        ("Mi", 1024.0 * 1024.0),
        ("Gi", 1024.0 * 1024.0 * 1024.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
    ];
    let unit = units.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)));
    let (number, factor) = unit.unwrap_or((&text, 1.0));
    let number: f64 = number.parse().with_context(|| format!("`{text}` is no quantity"))?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        let pod = Pod::new(crate::base::busybox().unwrap().root());
        let entrypoint = vec!["sh".to_owned(), "-c".to_owned()];
        Cluster::new().image("busybox", ImageStandIn { pod, entrypoint })
    }

    fn pod(spec: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  restartPolicy: Never\n{spec}"
        )
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (spec, name) in [
            ("  hostNetwork: true\n  containers: []\n", "hostNetwork"),
            ("  containers: [{name: a, image: busybox, lifecycle: {}}]\n", "lifecycle"),
            (
                "  containers: [{name: a, image: busybox, securityContext: {privileged: true}}]\n",
                "privileged",
            ),
            ("  containers: [{name: a, image: other}]\n", "other"),
            ("  containers: []\n  volumes: [{name: v, hostPath: {path: /}}]\n", "hostPath"),
        ] {
            let error = format!("{:#}", cluster().run(&pod(spec)).unwrap_err());
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn quantities_have_binary_and_decimal_units() {
        for (text, expected) in [("500Mi", 524_288_000.0), ("400m", 0.4), ("1k", 1000.0)] {
            assert!((quantity(&text.into()).unwrap() - expected).abs() < 1e-6, "{text}");
        }
        assert!((quantity(&2.into()).unwrap() - 2.0).abs() < 1e-6);
        quantity(&"much".into()).unwrap_err();
    }

    #[test]
    fn known_variables_are_replaced_and_others_are_left() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expanded("$(A) $(B) $$(A) $A", &variables), "1 $(B) $(A) $A");
    }

    #[test]
    fn privileged_a_manifest_decides_what_its_containers_get() {
        let manifest = "apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {word: hidden}
---
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec:
  template:
    spec:
      restartPolicy: Never
      hostAliases: [{ip: 127.0.0.1, hostnames: [registry.test]}]
      initContainers:
        - {name: first, image: busybox, args: ['echo from first > /v/f'], volumeMounts: [{name: v, mountPath: /v}]}
      containers:
        - name: second
          image: busybox
          args: ['cat /v/f /s/word; echo; echo $WORD $(NAME); grep -c registry.test /etc/hosts; touch /x || echo ro; touch /v/g 2>/dev/null || echo ro; grep -E \"^(CapEff|NoNew)\" /proc/self/status']
          env:
            - {name: WORD, valueFrom: {secretKeyRef: {name: s, key: word}}}
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL], add: [CHOWN]}
          volumeMounts: [{name: v, mountPath: /v, readOnly: true}, {name: s, mountPath: /s/word, subPath: word}]
      volumes: [{name: v, emptyDir: {}}, {name: s, secret: {secretName: s}}]
";
        let outputs = cluster().run(manifest).unwrap();
        let output = outputs.into_iter().next_back().unwrap().assert_success();
        assert_eq!(
            output.stdout,
            "from first\nhidden\nhidden j\n1\nro\nro\nCapEff:\t0000000000000001\nNoNewPrivs:\t1\n"
        );
    }
}
