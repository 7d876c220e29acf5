//! What is expected where the original is wrong.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Vector, docker};

/// Takes mistakes of the original out of a record, which `docs/COMPATIBILITY.md` lists.
pub(super) fn mend(mut vector: Vector) -> Vector {
    let has_cache = is_truthy(&vector.env, "PLUGIN_ENABLE_CACHE");
    let is_cloud = vector.bin != docker();
    let mut more: Vec<(&str, String)> = Vec::new();
    if let Some(argv) = &mut vector.argv {
        // An image without a name.
        argv.retain(|word| !word.starts_with("--destination=:"));
        // A repository without a path.
        argv.retain(|word| !(word.starts_with("--cache-repo=") && word.ends_with('/')));
        // A name with a scheme.
        for word in argv.iter_mut() {
            for flag in ["--destination=https://", "--cache-repo=https://"] {
                if let Some(rest) = word.strip_prefix(flag) {
                    *word = format!("{}{rest}", flag.trim_end_matches("https://"));
                }
            }
        }
        // Lists that are taken for one value.
        for flag in ["--ignore-path=", "--insecure-registry=", "--registry-certificate="] {
            *argv = argv
                .iter()
                .flat_map(|word| match word.strip_prefix(flag) {
                    Some(list) => {
                        list.split(',').map(|value| format!("{flag}{}", value.trim())).collect()
                    }
                    None => vec![word.clone()],
                })
                .collect();
        }
        // A flag that needs a value and has none.
        for word in argv.iter_mut().filter(|word| *word == "--skip-tls-verify-registry") {
            let name = if is_cloud { "PLUGIN_REGISTRY" } else { "PLUGIN_REPO" };
            let host = vector.env.get(name).map(String::as_str).unwrap_or_default();
            let host = host.trim_start_matches("https://").split('/').next().unwrap_or_default();
            word.push('=');
            word.push_str(host);
        }
        // Inputs that are read and forgotten.
        if has_cache && let Some(directory) = vector.env.get("PLUGIN_CACHE_DIR") {
            more.push(("--cache-copy-layers", format!("--cache-dir={directory}")));
        }
        if has_cache
            && vector.env.get("PLUGIN_CACHE_RUN_LAYERS").is_some_and(|value| value == "false")
        {
            more.push(("--cleanup", "--cache-run-layers=false".to_owned()));
        }
        if is_cloud && is_truthy(&vector.env, "PLUGIN_SKIP_TLS_VERIFY") {
            more.push(("--snapshot-mode", "--skip-tls-verify=true".to_owned()));
        }
        let has_no_push = is_truthy(&vector.env, "PLUGIN_NO_PUSH");
        let wants_names = vector.env.contains_key("PLUGIN_IMAGE_NAME_WITH_DIGEST_FILE")
            || vector.env.contains_key("PLUGIN_IMAGE_NAME_TAG_WITH_DIGEST_FILE");
        let has_names = argv.iter().any(|word| word.starts_with("--destination="));
        // Names are written to a file, and there are none.
        if has_no_push
            && wants_names
            && !has_names
            && let Some(repository) = vector.env.get("PLUGIN_REPO")
        {
            let tags = vector.env.get("PLUGIN_TAGS").map_or("latest", String::as_str);
            let names = tags
                .split(',')
                .map(|tag| ("--build-arg", format!("--destination={repository}:{}", tag.trim())));
            more.extend(names);
        }
        if vector.bin == "kaniko-gcr"
            && let Some(path) = vector.env.get("PLUGIN_TAR_PATH")
        {
            more.push(("--cache-copy-layers", format!("--tar-path={path}")));
        }
        for (before, word) in more {
            let position = position(argv, before);
            argv.insert(position, word);
        }
    }
    // What is pushed has other tags than the artifact says.
    let makes_tags =
        is_truthy(&vector.env, "PLUGIN_EXPAND_TAG") || is_truthy(&vector.env, "PLUGIN_AUTO_TAG");
    if makes_tags && let (Some(artifact), Some(argv)) = (&mut vector.artifact, &vector.argv) {
        let names = argv.iter().filter_map(|word| word.strip_prefix("--destination="));
        let images = names.map(|name| serde_json::json!({"image": name, "digest": "<DG>"}));
        artifact["data"]["images"] = images.collect();
    }
    mend_logins(&mut vector);
    // A directory that its owner may not enter; nothing is written, so that nothing can fail.
    if vector
        .stderr
        .as_deref()
        .is_some_and(|text| text.contains("/kaniko/.docker") && text.contains("permission denied"))
    {
        vector.is_only_to_succeed = true;
    }
    if vector.is_only_to_succeed {
        (vector.rc, vector.stderr, vector.argv) = (0, None, None);
    }
    vector
}

/// Logins that replace each other, and connectors without anybody.
fn mend_logins(vector: &mut Vector) {
    let value = |names: &[&str]| names.iter().find_map(|name| vector.env.get(*name)).cloned();
    let base = ["REGISTRY", "USERNAME", "PASSWORD"].map(|what| {
        let names = [
            format!("PLUGIN_DOCKER_{what}"),
            format!("PLUGIN_BASE_IMAGE_{what}"),
            format!("DOCKER_{what}"),
        ];
        value(&names.each_ref().map(String::as_str)).unwrap_or_default()
    });
    let push = ["REGISTRY", "USERNAME", "PASSWORD"]
        .map(|what| value(&[&format!("PLUGIN_{what}")]).unwrap_or_default());
    if base[0] == push[0]
        && let Some(config) = &mut vector.config
    {
        let auth = |login: &[String; 3]| STANDARD.encode(format!("{}:{}", login[1], login[2]));
        *config = config.replace(&auth(&base), &auth(&push));
    }
    let complaint = format!("Username must be specified for registry: {}", base[0]);
    let is_anonymous = !base[0].is_empty() && base[1].is_empty() && base[2].is_empty();
    if is_anonymous && vector.stderr.as_deref().is_some_and(|text| text.contains(&complaint)) {
        vector.is_only_to_succeed = true;
    }
}

fn is_truthy(env: &BTreeMap<String, String>, name: &str) -> bool {
    matches!(env.get(name).map(String::as_str), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Where a flag belongs that comes before `flag` in the original's order.
fn position(argv: &[String], flag: &str) -> usize {
    const ORDER: [&str; 18] = [
        "--dockerfile",
        "--context",
        "--destination",
        "--build-arg",
        "--label",
        "--registry-mirror",
        "--target",
        "--skip-tls-verify",
        "--snapshot-mode",
        "--cache",
        "--cache-repo",
        "--cache-ttl",
        "--digest-file",
        "--no-push",
        "--verbosity",
        "--skip-unused-stages",
        "--tar-path",
        "--cache-dir",
    ];
    const REST: [&str; 2] = ["--cache-copy-layers", "--cache-run-layers"];
    let rank = |wanted: &str| {
        let name = wanted.split('=').next().unwrap_or_default();
        ORDER
            .iter()
            .chain(&REST)
            .position(|known| *known == name)
            .unwrap_or(ORDER.len() + REST.len())
    };
    // The value of `--build-arg` is a word of its own.
    let is_value = |at: usize| at > 0 && argv[at - 1] == "--build-arg";
    (0..argv.len()).find(|&at| !is_value(at) && rank(&argv[at]) >= rank(flag)).unwrap_or(argv.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_original_gets_wrong_is_taken_out_of_a_record() {
        let record = r#"{"n": "x", "env": {"PLUGIN_ENABLE_CACHE": "true", "PLUGIN_CACHE_DIR": "/c", "PLUGIN_CACHE_RUN_LAYERS": "false"}, "rc": 0,
            "argv": ["--dockerfile=D", "--destination=https://r.io/i:1", "--cache=true", "--cache-repo=r.io/", "--digest-file=/d", "--ignore-path=/a,/b"]}"#;
        let mended = mend(serde_json::from_str(record).unwrap());
        assert_eq!(
            mended.argv.unwrap(),
            [
                "--dockerfile=D",
                "--destination=r.io/i:1",
                "--cache=true",
                "--digest-file=/d",
                "--cache-dir=/c",
                "--cache-run-layers=false",
                "--ignore-path=/a",
                "--ignore-path=/b"
            ]
        );
    }

    #[test]
    fn logins_that_the_original_mixes_up_are_kept_apart() {
        let record = r#"{"n": "x", "rc": 0, "config": "{\"auths\":{\"r\":{\"auth\":\"YjpiYg==\"}}}", "env": {"PLUGIN_REGISTRY": "r", "PLUGIN_USERNAME": "u",
            "PLUGIN_PASSWORD": "p", "PLUGIN_BASE_IMAGE_REGISTRY": "r", "DOCKER_USERNAME": "b", "PLUGIN_DOCKER_PASSWORD": "bb"}}"#;
        let mended = mend(serde_json::from_str(record).unwrap());
        assert_eq!(mended.config.unwrap(), r#"{"auths":{"r":{"auth":"dTpw"}}}"#);

        let record = r#"{"n": "x", "rc": 1, "stderr": "msg=\"failed to create docker config: Username must be specified for registry: b\"",
            "env": {"PLUGIN_DOCKER_REGISTRY": "b"}}"#;
        assert_eq!(mend(serde_json::from_str(record).unwrap()).rc, 0);
    }
}
