//! Objects of systems that publish no schema: the fields that the guides use, with the names and types of the systems' references.
//!
//! A field that is not here is refused. Whoever writes one on a page looks it up in the reference and adds it. What is a
//! [`Value`] is Kubernetes' and judged elsewhere.

#![expect(dead_code, reason = "fields are read so that they are checked")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// `Task` of `pkg/apis/pipeline/v1` of Tekton.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Task {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: TaskSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TaskSpec {
    description: Option<String>,
    #[serde(default)]
    params: Vec<ParamSpec>,
    #[serde(default)]
    workspaces: Vec<WorkspaceDeclaration>,
    #[serde(default)]
    results: Vec<TaskResult>,
    steps: Vec<TektonStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamSpec {
    name: String,
    #[serde(rename = "type")]
    kind: Option<ParamType>,
    description: Option<String>,
    default: Option<ParamValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ParamType {
    String,
    Array,
    Object,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ParamValue {
    Text(String),
    List(Vec<String>),
    Object(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkspaceDeclaration {
    name: String,
    description: Option<String>,
    mount_path: Option<String>,
    read_only: Option<bool>,
    optional: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskResult {
    name: String,
    #[serde(rename = "type")]
    kind: Option<ParamType>,
    description: Option<String>,
}

/// What a step has that a container of Kubernetes has not.
pub(super) const STEP_OF_TEKTON: &[&str] = &["computeResources", "script", "timeout", "onError"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TektonStep {
    name: String,
    image: String,
    working_dir: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    env: Option<Value>,
    volume_mounts: Option<Value>,
    security_context: Option<Value>,
    compute_resources: Option<Value>,
    script: Option<String>,
    timeout: Option<String>,
    on_error: Option<String>,
}

/// `ClusterBuildStrategy` of `pkg/apis/build/v1beta1` of Shipwright.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClusterBuildStrategy {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: BuildStrategySpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BuildStrategySpec {
    steps: Vec<ShipwrightStep>,
    #[serde(default)]
    parameters: Vec<StrategyParameter>,
    security_context: Option<StrategySecurityContext>,
}

/// A container, without its ports, probes and the like.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShipwrightStep {
    name: String,
    image: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    working_dir: Option<String>,
    env: Option<Value>,
    resources: Option<Value>,
    volume_mounts: Option<Value>,
    image_pull_policy: Option<String>,
    security_context: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyParameter {
    name: String,
    description: String,
    #[serde(rename = "type")]
    kind: Option<ParameterType>,
    default: Option<String>,
    defaults: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ParameterType {
    String,
    Array,
}

/// Both are required there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrategySecurityContext {
    run_as_user: i64,
    run_as_group: i64,
}

/// `Workflow` of `pkg/apis/workflow/v1alpha1` of Argo Workflows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Workflow {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: WorkflowSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkflowSpec {
    entrypoint: String,
    service_account_name: Option<String>,
    active_deadline_seconds: Option<i64>,
    templates: Vec<Template>,
    volumes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Template {
    name: String,
    inputs: Option<Inputs>,
    container: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    #[serde(default)]
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Artifact {
    name: String,
    path: String,
    git: Option<GitArtifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GitArtifact {
    repo: String,
    revision: Option<String>,
    depth: Option<u64>,
    branch: Option<String>,
    single_branch: Option<bool>,
    disable_submodules: Option<bool>,
}

/// `SkaffoldConfig` of `skaffold/v4beta11`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Skaffold {
    api_version: String,
    kind: String,
    build: SkaffoldBuild,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkaffoldBuild {
    artifacts: Vec<SkaffoldArtifact>,
    cluster: ClusterDetails,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkaffoldArtifact {
    image: String,
    context: Option<String>,
    kaniko: KanikoArtifact,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KanikoArtifact {
    image: String,
    dockerfile: Option<String>,
    target: Option<String>,
    build_args: Option<BTreeMap<String, String>>,
    cache: Option<KanikoCache>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KanikoCache {
    repo: Option<String>,
    host_path: Option<String>,
    ttl: Option<String>,
    cache_copy_layers: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClusterDetails {
    namespace: Option<String>,
    service_account: Option<String>,
    docker_config: Option<DockerConfig>,
    resources: Option<ResourceRequirements>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DockerConfig {
    path: Option<String>,
    secret_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceRequirements {
    requests: Option<ResourceRequirement>,
    limits: Option<ResourceRequirement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceRequirement {
    cpu: Option<String>,
    memory: Option<String>,
    ephemeral_storage: Option<String>,
}

/// `Kustomization` of `kustomize.config.k8s.io/v1beta1`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kustomization {
    api_version: String,
    kind: String,
    name_prefix: Option<String>,
    resources: Vec<String>,
    #[serde(default)]
    config_map_generator: Vec<ConfigMapArgs>,
    #[serde(default)]
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMapArgs {
    name: String,
    literals: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

/// A step `BuildAndPushDockerNode` of Harness' schema of pipelines, in a list of steps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HarnessStep {
    step: HarnessNode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HarnessNode {
    #[serde(rename = "type")]
    kind: HarnessKind,
    name: String,
    identifier: String,
    timeout: Option<String>,
    spec: DockerStepInfo,
}

#[derive(Deserialize)]
enum HarnessKind {
    BuildAndPushDockerRegistry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DockerStepInfo {
    connector_ref: String,
    repo: String,
    tags: Vec<String>,
    dockerfile: Option<String>,
    context: Option<String>,
    target: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    build_args: Option<BTreeMap<String, String>>,
    optimize: Option<bool>,
    caching: Option<bool>,
    remote_cache_repo: Option<String>,
    base_image_connector_refs: Option<Vec<String>>,
    run_as_user: Option<String>,
    resources: Option<ContainerResource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerResource {
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory: Option<String>,
    cpu: Option<String>,
}

/// What pages that are about one mount show of a pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PartOfPod {
    volume_mounts: Value,
    volumes: Option<Value>,
}
