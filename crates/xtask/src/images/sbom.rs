//! What is in an image, as SPDX writes it down.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::command::capture_text;

use super::{Built, Material, sha256_of};
use crate::progress::cargo;

/// Everything in an image that somebody wrote and gave a version.
#[derive(Debug)]
pub(super) struct Parts {
    /// What is linked into the program.
    linked: Vec<Part>,
    /// Other files of the image.
    files: Vec<Part>,
    /// The program itself.
    program: Part,
}

/// One thing, in SPDX's words.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    version: String,
    licence: Option<String>,
    sha256: Option<String>,
    location: Option<String>,
    purl: String,
}

impl Parts {
    /// Asks cargo what is linked into the program, for exactly the processor and the features that it was built for. What only
    /// ran while it was built, such as procedural macros, is not in it.
    pub(super) fn find(material: &Material, target: &str) -> anyhow::Result<Self> {
        let machine = &material.machine;
        let triple = material.architecture.triple();
        let mut tree = cargo(&["tree", "--locked", "--package", "ebiko", "--prefix", "none"]);
        tree.args(["--edges", "normal,no-proc-macro", "--no-dedupe", "--target", triple]);
        let text = capture_text(tree.args(["--format", "{p}|{l}"]))?;
        let lock = std::fs::read_to_string(testkit::workspace_dir().join("Cargo.lock"))
            .context("cannot read `Cargo.lock`")?;
        let mut linked = crates(&text, &checksums(&lock))?;
        linked.extend([
            Part {
                purl: format!("pkg:generic/rust-std@{}", machine.rustc),
                ..Part::of("rust-std", &machine.rustc, "MIT OR Apache-2.0")
            },
            Part {
                purl: format!("pkg:generic/glibc@{}", machine.glibc),
                ..Part::of("glibc", &machine.glibc, "LGPL-2.1-or-later")
            },
            Part {
                purl: format!("pkg:generic/libgcc@{}", machine.gcc),
                ..Part::of("libgcc", &machine.gcc, "GPL-3.0-or-later WITH GCC-exception-3.1")
            },
        ]);
        let file = |path: &str| sha256_of(&material.context.join(path)).map(Some);
        let mut files = vec![Part {
            purl: "pkg:generic/ca-certificates".to_owned(),
            sha256: file("slim/kaniko/ssl/certs/ca-certificates.crt")?,
            ..Part::of("ca-certificates", "", "MPL-2.0")
        }];
        if target == "debug" {
            let bytes = std::fs::read(material.context.join("shell/busybox/busybox"))?;
            let version =
                busybox_version(&bytes).context("the busybox does not say its version")?;
            files.push(Part {
                purl: format!("pkg:generic/busybox@{version}"),
                sha256: file("shell/busybox/busybox")?,
                ..Part::of("busybox", &version, "GPL-2.0-only")
            });
        }
        let program = Part {
            purl: format!("pkg:generic/ebiko@{}", machine.version),
            sha256: file("slim/kaniko/executor")?,
            ..Part::of("ebiko", &machine.version, "Apache-2.0")
        };
        Ok(Self { linked, files, program })
    }
}

impl Part {
    fn of(name: &str, version: &str, licence: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            licence: Some(licence.to_owned()),
            sha256: None,
            location: None,
            purl: String::new(),
        }
    }

    fn spdx(&self, id: &str) -> Value {
        let licence = self.licence.as_deref().unwrap_or("NOASSERTION");
        let mut package = json!({
            "SPDXID": id,
            "name": self.name,
            "downloadLocation": self.location.as_deref().unwrap_or("NOASSERTION"),
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": licence,
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": self.purl,
            }],
        });
        if !self.version.is_empty() {
            package["versionInfo"] = json!(self.version);
        }
        if let Some(sha256) = &self.sha256 {
            package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
        }
        package
    }
}

/// The document, SPDX 2.3: the image contains the program, which links the rest, and files.
pub(super) fn document(material: &Material, image: &Built, parts: &Parts) -> Value {
    let sha256 = image.digest.trim_start_matches("sha256:");
    let name = format!("ebiko/{}", image.target);
    let root = Part {
        purl: format!(
            "pkg:oci/{}@sha256%3A{sha256}?arch={}",
            image.target,
            material.architecture.name()
        ),
        sha256: Some(sha256.to_owned()),
        ..Part::of(&name, &material.machine.version, "Apache-2.0")
    };
    let mut root = root.spdx("SPDXRef-image");
    root["primaryPackagePurpose"] = json!("CONTAINER");
    let mut packages = vec![root];
    let relation = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image")];
    let mut add = |part: &Part, from: &str, kind: &str| {
        let id = format!("SPDXRef-{}", id_of(&format!("{}-{}", part.name, part.version)));
        packages.push(part.spdx(&id));
        relations.push(relation(from, kind, &id));
        id
    };
    let program = add(&parts.program, "SPDXRef-image", "CONTAINS");
    for part in &parts.files {
        add(part, "SPDXRef-image", "CONTAINS");
    }
    for part in &parts.linked {
        add(part, &program, "STATIC_LINK");
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/ebiko-{}-{sha256}", image.target),
        "creationInfo": {
            "created": material.machine.created,
            "creators": [format!("Tool: ebiko-xtask-{}", material.machine.version)],
        },
        "packages": packages,
        "relationships": relations,
    })
}

/// Only letters, digits, dots and hyphens may be in an identifier.
fn id_of(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    text.trim_end_matches('-').chars().map(allowed).collect()
}

/// Reads `name v1.2.3 (from)|licence` of `cargo tree`.
fn crates(tree: &str, checksums: &BTreeMap<(String, String), String>) -> anyhow::Result<Vec<Part>> {
    let lines: BTreeSet<&str> = tree.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut parts = Vec::new();
    for line in lines {
        let (package, licence) =
            line.split_once('|').with_context(|| format!("cannot read `{line}` of cargo"))?;
        let mut words = package.split_whitespace();
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let version = version.trim_start_matches('v');
        ensure!(!name.is_empty() && !version.is_empty(), "cannot read `{line}` of cargo");
        // The program stands for itself.
        if name == "ebiko" {
            continue;
        }
        let sha256 = checksums.get(&(name.to_owned(), version.to_owned())).cloned();
        let location = sha256
            .as_ref()
            .map(|_| format!("https://static.crates.io/crates/{name}/{name}-{version}.crate"));
        parts.push(Part {
            purl: format!("pkg:cargo/{name}@{version}"),
            sha256,
            location,
            licence: (!licence.is_empty()).then(|| licence.replace('/', " OR ")),
            ..Part::of(name, version, "")
        });
    }
    Ok(parts)
}

/// The checksums in `Cargo.lock`, by name and version. Crates of the workspace have none.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let entries = lock.split("[[package]]").skip(1);
    let found = entries.filter_map(|entry| {
        let field = |name: &str| {
            let mut lines = entry.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
            Some(value.trim_matches('"').to_owned())
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    found.collect()
}

/// What follows `BusyBox v` in the program: it says its version whenever it is asked for help.
fn busybox_version(bytes: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"BusyBox v";
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
    let rest = bytes.get(at + MARK.len()..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok().filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_get_their_licence_and_their_checksum() {
        let lock = "version = 4\n\n[[package]]\nname = \"ebiko-oci\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"00ff\"\n";
        let tree = "ebiko v0.1.0 (/somewhere)|Apache-2.0\na v1.0.0|MIT/Apache-2.0\nebiko-oci v0.1.0 (/x)|Apache-2.0\n\
                    a v1.0.0|MIT/Apache-2.0\nb v2.0.0|\n";
        let parts = crates(tree, &checksums(lock)).unwrap();
        let text: Vec<String> = parts
            .iter()
            .map(|part| format!("{} {:?} {:?}", part.purl, part.licence, part.sha256))
            .collect();
        assert_eq!(
            text,
            [
                r#"pkg:cargo/a@1.0.0 Some("MIT OR Apache-2.0") Some("00ff")"#,
                "pkg:cargo/b@2.0.0 None None",
                r#"pkg:cargo/ebiko-oci@0.1.0 Some("Apache-2.0") None"#,
            ]
        );
    }

    #[test]
    fn the_version_of_busybox_is_read_and_not_asked_for() {
        let bytes = std::fs::read("/bin/busybox").unwrap();
        let version = busybox_version(&bytes).unwrap();
        let said = capture_text(&mut std::process::Command::new("/bin/busybox")).unwrap();
        assert!(said.starts_with(&format!("BusyBox v{version} ")), "{version}: {said}");
        assert_eq!(busybox_version(b"something else"), None);
    }

    #[test]
    fn an_identifier_has_no_other_characters() {
        assert_eq!(id_of("ebiko/debug-0.1.0+x"), "ebiko-debug-0.1.0-x");
        assert_eq!(id_of("ca-certificates-"), "ca-certificates");
    }
}
