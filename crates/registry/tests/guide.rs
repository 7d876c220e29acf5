//! The configs in `docs/guide/credentials.md` are configs.

#![expect(clippy::disallowed_methods, reason = "reads the documentation of this repository")]

use ebiko_registry::Credentials;

#[test]
fn every_config_of_the_guide_is_read_and_every_key_in_it_counts() {
    let guide = testkit::workspace_dir().join("docs/guide/credentials.md");
    let guide = std::fs::read_to_string(guide).expect("the guide is there");
    let snippets: Vec<&str> = guide
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("a block is closed").0)
        .collect();
    assert!(snippets.len() >= 9, "there is one for each registry");
    for snippet in snippets {
        let credentials = Credentials::from_docker_config(snippet.as_bytes());
        let print =
            format!("{:?}", credentials.unwrap_or_else(|error| panic!("{error}\n{snippet}")));
        let config: serde_json::Value = serde_json::from_str(snippet).expect("it is JSON");
        for part in ["auths", "credHelpers"] {
            for key in config[part].as_object().into_iter().flat_map(serde_json::Map::keys) {
                assert!(print.contains(key.as_str()), "{key} is not in {print}");
            }
        }
        let shapes = ["auth", "username", "identitytoken", "registrytoken"];
        for entry in config["auths"].as_object().into_iter().flat_map(serde_json::Map::values) {
            let fields = entry.as_object().expect("an entry is an object");
            let is_known =
                fields.is_empty() || shapes.iter().any(|shape| fields.contains_key(*shape));
            assert!(is_known, "{snippet}");
        }
    }
}
