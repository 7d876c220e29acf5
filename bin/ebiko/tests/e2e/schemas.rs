//! Every block of YAML in the guides, and every file of `many-builds`, as whoever reads it judges it.
//!
//! Kubernetes' objects are compared with its own description of them, pipelines with the schemas that are published for them. The
//! other systems publish types in Go; what the guides use of those is in [`foreign`], and the containers and volumes inside, which
//! are Kubernetes', are judged as those of a pod.

mod foreign;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::{Pipeline, kubernetes_errors, pipeline_errors, yaml};

use crate::bench::workspace;
use crate::deployment::blocks;

/// A piece of YAML and where it is from: `page-3`.
struct Piece {
    page: String,
    name: String,
    text: String,
}

/// The YAML of all guides.
fn pieces() -> Vec<Piece> {
    let guides = workspace("docs/guide");
    let mut pieces = Vec::new();
    for entry in std::fs::read_dir(&guides).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(page) = file.strip_suffix(".md") else { continue };
        for (number, text) in blocks(&file).into_iter().enumerate() {
            pieces.push(Piece { page: page.to_owned(), name: format!("{page}-{number}"), text });
        }
    }
    for dir in ["app", "base"] {
        for entry in std::fs::read_dir(guides.join("many-builds").join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("many-builds-{dir}-{}", path.file_stem().unwrap().display());
            let text = std::fs::read_to_string(&path).unwrap();
            pieces.push(Piece { page: "many-builds".to_owned(), name, text });
        }
    }
    pieces.sort_by(|one, other| one.name.cmp(&other.name));
    pieces
}

/// What reads the YAML of a page that does not say itself what it is.
fn pipeline(page: &str) -> Option<Pipeline> {
    match page {
        "drone" => Some(Pipeline::Drone),
        "github-actions" => Some(Pipeline::GitHub),
        "gitlab" | "images" => Some(Pipeline::GitLab),
        "woodpecker" => Some(Pipeline::Woodpecker),
        _ => None,
    }
}

/// What is wrong with these pieces, each line with the name of its piece.
fn errors(pieces: &[Piece]) -> String {
    let mut objects = Vec::new();
    let mut pipelines: BTreeMap<Pipeline, Vec<(String, String)>> = BTreeMap::new();
    let mut said = String::new();
    for piece in pieces {
        let documents = match yaml(&piece.text) {
            Ok(documents) if !documents.is_empty() => documents,
            other => {
                writeln!(said, "{}: no YAML: {other:?}", piece.name).unwrap();
                continue;
            }
        };
        for (number, document) in documents.iter().enumerate() {
            match pipeline(&piece.page) {
                Some(kind) if document["apiVersion"].is_null() => {
                    pipelines
                        .entry(kind)
                        .or_default()
                        .push((piece.name.clone(), piece.text.clone()));
                }
                _ => match object(document) {
                    Ok(Some(mut object)) => {
                        // The judge cannot complain about what has no name, as a template of Jenkins has none.
                        if object["metadata"]["name"].is_null() {
                            object["metadata"]["name"] = json!("nameless");
                        }
                        objects.push((format!("{}-{number}", piece.name), object));
                    }
                    Ok(None) => {}
                    Err(error) => writeln!(said, "{}: {error}", piece.name).unwrap(),
                },
            }
        }
    }
    said += &kubernetes_errors(&objects).unwrap();
    for (kind, texts) in pipelines {
        said += &pipeline_errors(kind, &texts).unwrap();
    }
    said
}

/// What Kubernetes is asked about a document, after everything else in it has been judged here.
fn object(document: &Value) -> Result<Option<Value>, String> {
    let text = |field: &str| document[field].as_str().unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1" | "batch/v1", _) => Ok(Some(document.clone())),
        ("tekton.dev/v1", "Task") => {
            strict::<foreign::Task>(document)?;
            let steps = each(&document["spec"]["steps"], foreign::STEP_OF_TEKTON);
            Ok(Some(pod(document, &json!(steps), &Value::Null)))
        }
        ("shipwright.io/v1beta1", "ClusterBuildStrategy") => {
            strict::<foreign::ClusterBuildStrategy>(document)?;
            Ok(Some(pod(document, &document["spec"]["steps"], &Value::Null)))
        }
        ("argoproj.io/v1alpha1", "Workflow") => {
            strict::<foreign::Workflow>(document)?;
            let templates = document["spec"]["templates"].as_array().into_iter().flatten();
            let containers = templates.map(|template| {
                let mut container = template["container"].clone();
                container["name"] = template["name"].clone();
                container
            });
            let containers: Vec<Value> = containers.collect();
            Ok(Some(pod(document, &json!(containers), &document["spec"]["volumes"])))
        }
        ("skaffold/v4beta11", "Config") => strict::<foreign::Skaffold>(document).map(|()| None),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization") => {
            strict::<foreign::Kustomization>(document).map(|()| None)
        }
        ("", "") if document.is_array() => {
            strict::<Vec<foreign::HarnessStep>>(document).map(|()| None)
        }
        ("", "") => fragment(document),
        (version, kind) => Err(format!("nobody here knows the kind `{version}` `{kind}`")),
    }
}

/// A part of a pod: the mounts of its container and its volumes.
fn fragment(document: &Value) -> Result<Option<Value>, String> {
    strict::<foreign::PartOfPod>(document)?;
    let mut container = json!({"name": "build", "image": "executor"});
    container["volumeMounts"] = document["volumeMounts"].clone();
    let metadata = json!({"metadata": {"name": "part"}});
    Ok(Some(pod(&metadata, &json!([container]), &document["volumes"])))
}

fn strict<T: DeserializeOwned>(document: &Value) -> Result<(), String> {
    serde_json::from_value::<T>(document.clone()).map(drop).map_err(|error| error.to_string())
}

/// The elements of a list without fields that are not Kubernetes'.
fn each(list: &Value, without: &[&str]) -> Vec<Value> {
    let elements = list.as_array().into_iter().flatten();
    elements
        .map(|element| {
            let mut element = element.clone();
            if let Some(fields) = element.as_object_mut() {
                fields.retain(|name, _| !without.contains(&name.as_str()));
            }
            element
        })
        .collect()
}

fn pod(document: &Value, containers: &Value, volumes: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": {"containers": containers}
    });
    if !volumes.is_null() {
        pod["spec"]["volumes"] = volumes.clone();
    }
    pod
}

#[test]
fn whoever_reads_the_yaml_of_the_guides_knows_every_field_of_it() {
    let pieces = pieces();
    assert!(pieces.len() > 20, "{}", pieces.len());
    assert_eq!(errors(&pieces), "");
}

/// One word of each page, and of each part of it that somebody else judges, misspelt.
const MISTAKES: [(&str, &str, &str); 33] = [
    ("argo-0", "entrypoint", "entrypoints"),
    ("argo-0", "revision", "revisions"),
    ("argo-0", "readOnly", "readonly"),
    ("argo-0", "secretName", "secretname"),
    ("cache-0", "schedule", "schedules"),
    ("contexts-0", "secretName", "secretname"),
    ("credentials-0", "secretName", "secret_name"),
    ("drone-0", "steps", "step"),
    ("github-actions-0", "runs-on", "run-on"),
    ("gitlab-0", "stage:", "stages:"),
    ("harness-0", "connectorRef", "connector"),
    ("identities-0", "annotations", "annotation"),
    ("identities-1", "serviceAccountName", "serviceAccounts"),
    ("identities-2", "nodeSelector", "nodeSelect"),
    ("identities-3", "labels", "label"),
    ("images-0", "entrypoint", "entry"),
    ("jenkins-0", "tty", "terminal"),
    ("kubernetes-0", "restartPolicy", "restart"),
    ("kubernetes-1", "backoffLimit", "backOffLimit"),
    ("kubernetes-2", "subPath", "subpath"),
    ("many-builds-app-kustomization", "namePrefix", "nameprefix"),
    ("many-builds-base-build-amd64", "nodeSelector", "nodeSelect"),
    ("many-builds-base-build-arm64", "configMapKeyRef", "configMapRef"),
    ("many-builds-base-join", "backoffLimit", "retries"),
    ("many-builds-base-kustomization", "resources", "bases"),
    ("non-root-0", "runAsNonRoot", "runAsNonroot"),
    ("non-root-1", "allowPrivilegeEscalation", "allowPrivileges"),
    ("non-root-2", "hostUsers", "hostUser"),
    ("registries-0", "subPath", "subpath"),
    ("shipwright-0", "workingDir", "workDir"),
    ("skaffold-0", "cacheCopyLayers", "cacheLayers"),
    ("tekton-0", "runAsUser", "runAs"),
    ("woodpecker-0", "image", "images"),
];

#[test]
fn a_misspelt_word_on_any_page_is_found() {
    let known: BTreeMap<String, Piece> =
        pieces().into_iter().map(|piece| (piece.name.clone(), piece)).collect();
    for name in known.keys() {
        assert!(MISTAKES.iter().any(|(piece, ..)| name == piece), "{name} has no mistake here");
    }
    let wrong: Vec<Piece> = MISTAKES
        .iter()
        .enumerate()
        .map(|(number, (name, word, misspelt))| {
            let Piece { page, text, .. } = &known[*name];
            assert!(text.contains(word), "`{word}` is not in {name}");
            let name = format!("{name}-mistake{number}");
            Piece { page: page.clone(), name, text: text.replace(word, misspelt) }
        })
        .collect();
    let said = errors(&wrong);
    for piece in &wrong {
        assert!(said.contains(&piece.name), "{} is right?\n{said}", piece.name);
    }

    let unknown = "apiVersion: example.org/v1\nkind: Build\n".to_owned();
    let unknown = Piece { page: "new".to_owned(), name: "new-0".to_owned(), text: unknown };
    assert!(errors(&[unknown]).contains("nobody here knows the kind"));
}
