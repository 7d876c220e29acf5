//! The files that tell the next step what was made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::dotenv;

/// What is written after a success, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    /// The artifact file, if one is wanted. Its directory is made.
    pub artifact_file: Option<PathBuf>,
    /// The file of variables, if one is wanted.
    pub output_file: Option<PathBuf>,
    pub(crate) registry_type: &'static str,
    pub(crate) registry: String,
    pub(crate) images: Vec<String>,
    pub(crate) tar: Option<String>,
}

#[derive(Serialize)]
struct Artifact<'a> {
    kind: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    registry_type: &'a str,
    registry_url: &'a str,
    /// Go writes a list without elements that was never made as `null`.
    images: Option<Vec<Image<'a>>>,
}

#[derive(Serialize)]
struct Image<'a> {
    image: &'a str,
    digest: &'a str,
}

impl Outputs {
    /// The same for a registry that people look at under this address.
    #[must_use]
    pub fn at(self, address: &str) -> Self {
        Self { registry: address.to_owned(), ..self }
    }

    /// The content of the artifact file: `docker/v1`, as Go writes it, for an image with this digest.
    #[must_use]
    pub fn artifact(&self, digest: &str) -> String {
        let images: Vec<Image<'_>> =
            self.images.iter().map(|image| Image { image, digest }).collect();
        let artifact = Artifact {
            kind: "docker/v1",
            data: Data {
                registry_type: self.registry_type,
                registry_url: &self.registry,
                images: Some(images).filter(|images| !images.is_empty()),
            },
        };
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        // Neither a map with odd keys nor a failing writer is involved.
        drop(artifact.serialize(&mut serializer));
        go_json(&String::from_utf8_lossy(&text))
    }

    /// The content of the file of variables.
    #[must_use]
    pub fn variables(&self, digest: &str) -> String {
        let mut values = BTreeMap::new();
        if !digest.is_empty() {
            values.insert("digest", digest.to_owned());
        }
        if let Some(tar) = &self.tar {
            values.insert("IMAGE_TAR_PATH", tar.clone());
        }
        dotenv::write(&values)
    }
}

/// JSON as Go's encoder writes it: three characters that mean something in HTML, and two that are line ends in JavaScript,
/// are escaped. They can only be in strings.
pub(crate) fn go_json(text: &str) -> String {
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(images: &[&str], tar: Option<&str>) -> Outputs {
        Outputs {
            artifact_file: None,
            output_file: None,
            registry_type: "Docker",
            registry: "https://index.docker.io/".into(),
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            tar: tar.map(str::to_owned),
        }
    }

    #[test]
    fn the_artifact_is_the_originals_to_the_byte() {
        let expected = "{\n\t\"kind\": \"docker/v1\",\n\t\"data\": {\n\t\t\"registryType\": \"Docker\",\n\
                        \t\t\"registryUrl\": \"https://index.docker.io/\",\n\t\t\"images\": [\n\
                        \t\t\t{\n\t\t\t\t\"image\": \"image:a1\",\n\t\t\t\t\"digest\": \"sha256:22332233\"\n\t\t\t},\n\
                        \t\t\t{\n\t\t\t\t\"image\": \"image:latest\",\n\t\t\t\t\"digest\": \"sha256:22332233\"\n\t\t\t}\n\
                        \t\t]\n\t}\n}";
        assert_eq!(
            outputs(&["image:a1", "image:latest"], None).artifact("sha256:22332233"),
            expected
        );
        assert!(outputs(&[], None).artifact("").contains("\"images\": null"));
        assert!(outputs(&["a<b"], None).artifact("").contains("a\\u003cb"));
    }

    #[test]
    fn variables_are_sorted_and_quoted() {
        assert_eq!(
            outputs(&[], Some("./T!")).variables("sha256:test"),
            "IMAGE_TAR_PATH=\"./T\\!\"\ndigest=\"sha256:test\"\n"
        );
        assert_eq!(outputs(&[], None).variables("sha256:test"), "digest=\"sha256:test\"\n");
        assert_eq!(outputs(&[], None).variables(""), "");
    }
}
