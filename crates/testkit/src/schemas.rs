//! Whether YAML is what the system that reads it takes: Kubernetes' own description of its objects, and the published schemas
//! of pipelines.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::command::run_for;
use crate::python::environment;

const REQUIREMENTS: &str = include_str!("schemas/requirements.txt");

/// No judge takes longer, also where ten tests run at once.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(2);

/// What reads a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pipeline {
    /// Drone.
    Drone,
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
    /// Woodpecker.
    Woodpecker,
}

impl Pipeline {
    /// The name that `check-jsonschema` has for the schema.
    fn schema(self) -> &'static str {
        match self {
            Self::Drone => "vendor.drone-ci",
            Self::GitHub => "vendor.github-workflows",
            Self::GitLab => "vendor.gitlab-ci",
            Self::Woodpecker => "vendor.woodpecker-ci",
        }
    }
}

/// The Python with `kubernetes-validate` and `check-jsonschema`, which is made where it is missing.
///
/// # Errors
///
/// Fails without `python3 -m venv`, or where a package cannot be fetched.
pub fn schema_python() -> anyhow::Result<PathBuf> {
    environment("schemas", REQUIREMENTS)
}

/// What is wrong with objects of Kubernetes, each with a name that the answer has in it. A field that Kubernetes does not have is
/// wrong. Nothing is wrong where the answer is empty.
///
/// # Errors
///
/// Fails if the objects cannot be judged.
pub fn kubernetes_errors(objects: &[(String, Value)]) -> anyhow::Result<String> {
    let files = objects.iter().map(|(name, object)| (name.clone(), object.to_string()));
    judge("kubernetes_validate", &["--strict", "--quiet"], &files.collect::<Vec<_>>())
}

/// As [`kubernetes_errors`], of pipelines in YAML.
///
/// # Errors
///
/// Fails if the pipelines cannot be judged.
pub fn pipeline_errors(kind: Pipeline, texts: &[(String, String)]) -> anyhow::Result<String> {
    judge("check_jsonschema", &["--builtin-schema", kind.schema()], texts)
}

fn judge(module: &str, arguments: &[&str], files: &[(String, String)]) -> anyhow::Result<String> {
    if files.is_empty() {
        return Ok(String::new());
    }
    let dir = crate::scratch_dir("schemas-")?;
    let mut command = Command::new(schema_python()?);
    command.args(["-m", module]).args(arguments);
    for (name, text) in files {
        let path = dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text)?;
        command.arg(path);
    }
    let output = run_for(&mut command, PATIENCE).with_context(|| format!("cannot ask {module}"))?;
    let said = format!("{}{}", output.stdout, output.stderr);
    match output.code {
        0 => Ok(String::new()),
        // What is wrong is said; whatever else a failure says is no judgement.
        1 if said.contains("did not validate") || said.contains("Schema validation errors") => {
            Ok(without(&said, dir.path()))
        }
        code => anyhow::bail!("{module} ended with {code}\n{said}"),
    }
}

fn without(said: &str, dir: &Path) -> String {
    said.replace(&format!("{}/", dir.display()), "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_nobody_knows_is_wrong_and_its_place_is_said() {
        let pod = |field: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", field: "i"}]}});
        let objects = [("good".to_owned(), pod("image")), ("bad".to_owned(), pod("imago"))];
        let said = kubernetes_errors(&objects).unwrap();
        assert!(said.contains("bad.yaml") && said.contains("imago"), "{said}");
        assert!(!said.contains("good.yaml"), "{said}");

        let pipeline = |text: &str| [("job".to_owned(), text.to_owned())];
        let good = pipeline("build: {script: [make]}\n");
        assert_eq!(pipeline_errors(Pipeline::GitLab, &good).unwrap(), "");
        let said =
            pipeline_errors(Pipeline::GitLab, &pipeline("build: {script: [make], scripts: 1}\n"));
        assert!(said.unwrap().contains("scripts"));
    }
}
