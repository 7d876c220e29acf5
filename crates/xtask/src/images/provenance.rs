//! Where an image comes from, as in-toto and SLSA write it down.

use serde_json::{Value, json};

use super::{Built, Material, dockerfile, sha256_of};

/// The statement, unsigned: who publishes an image signs it with a key or an identity that this repository does not have.
pub(super) fn statement(material: &Material, image: &Built) -> anyhow::Result<Value> {
    let machine = &material.machine;
    let sha256 = image.digest.trim_start_matches("sha256:");
    let file = |name: &str| -> anyhow::Result<Value> {
        let digest = sha256_of(&material.context.join(name))?;
        Ok(json!({"name": name, "digest": {"sha256": digest}}))
    };
    let source = match &machine.commit {
        Some(commit) => json!({
            "name": "source",
            "digest": {"gitCommit": commit},
            "annotations": {"changed": machine.is_changed},
        }),
        None => json!({"name": "source", "annotations": {"changed": true}}),
    };
    let lock = testkit::workspace_dir().join("Cargo.lock");
    let mut materials = vec![
        source,
        json!({"name": "bin/ebiko/Dockerfile", "digest": {"sha256": sha256_of(&dockerfile())?}}),
        json!({"name": "Cargo.lock", "digest": {"sha256": sha256_of(&lock)?}}),
        file("slim/kaniko/executor")?,
        file("slim/kaniko/ssl/certs/ca-certificates.crt")?,
    ];
    if image.target == "debug" {
        materials.push(file("shell/busybox/busybox")?);
    }
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": format!("ebiko/{}", image.target), "digest": {"sha256": sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:ebiko:cargo-xtask-images:1",
                "externalParameters": {
                    "dockerfile": "bin/ebiko/Dockerfile",
                    "target": image.target,
                    "platform": format!("linux/{}", material.architecture.name()),
                },
                "internalParameters": {
                    "SOURCE_DATE_EPOCH": machine.source_time.to_string(),
                    "rustFlags": crate::binary::flags(material.architecture),
                },
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": "urn:ebiko:cargo-xtask-images",
                    "version": {
                        "ebiko": machine.version,
                        "rustc": machine.rustc,
                        "gcc": machine.gcc,
                        "glibc": machine.glibc,
                    },
                },
            },
        },
    }))
}
