//! Operating system and processor of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on, such as `linux/arm/v7`.
///
/// The fields are Go's names (`GOOS`, `GOARCH`), as in every manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Processor architecture: `amd64`, `arm64`, `riscv64`, …
    #[serde(default)]
    pub architecture: String,
    /// Operating system, `linux` for everything that ebiko can run.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system; Windows images need it.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text is not of the form `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error(
    "`{text}` is not a platform: it must have the form `os/architecture[/variant]`, such as `linux/arm64`"
)]
pub struct PlatformError {
    pub text: String,
}

impl Platform {
    /// `linux/<architecture>` in normal form. `architecture` may be Go's or the kernel's name.
    pub fn linux(architecture: &str) -> Self {
        Self::normal("linux", architecture, None)
    }

    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".into(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let architecture = architecture.to_ascii_lowercase();
        // The rules of containerd's `platforms.Normalize`, which BuildKit and Docker share.
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("i386", _) => ("386".into(), None),
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64".into(), None),
            ("x86_64" | "x86-64", _) => ("amd64".into(), variant),
            ("aarch64" | "arm64", Some("8" | "v8" | "v8.0") | None) => ("arm64".into(), None),
            ("aarch64", _) => ("arm64".into(), variant),
            ("armhf", _) | ("arm", Some("7") | None) => ("arm".into(), Some("v7".into())),
            ("armel", _) | ("arm", Some("6")) => ("arm".into(), Some("v6".into())),
            ("arm", Some("5")) => ("arm".into(), Some("v5".into())),
            ("arm", Some("8")) => ("arm".into(), Some("v8".into())),
            _ => (architecture, variant),
        };
        Self { architecture, os, os_version: None, variant }
    }

    /// This platform with aliases (`x86_64`, `aarch64`, `arm64/v8`) replaced by the usual names.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let mut normal = Self::normal(&self.os, &self.architecture, self.variant.as_deref());
        normal.os_version.clone_from(&self.os_version);
        normal
    }

    /// How well an image for `self` runs where `wanted` was asked for: `None` is not at all, and
    /// a smaller number is better. An older ARM variant runs on a newer one, never the reverse.
    pub fn distance(&self, wanted: &Self) -> Option<u32> {
        let (mine, wanted) = (self.normalized(), wanted.normalized());
        if mine.os != wanted.os {
            return None;
        }
        if wanted.os_version.is_some() && mine.os_version != wanted.os_version {
            return None;
        }
        if mine.architecture == wanted.architecture {
            return match (level(&mine), level(&wanted)) {
                _ if mine.variant == wanted.variant => Some(0),
                (Some(mine), Some(wanted)) if mine <= wanted => Some(wanted - mine),
                _ => None,
            };
        }
        None
    }
}

/// The number in an architecture variant whose levels include the lower ones.
fn level(platform: &Platform) -> Option<u32> {
    let default = match platform.architecture.as_str() {
        "amd64" => "v1",
        "arm64" => "v8",
        "arm" => "v7",
        _ => return None,
    };
    platform.variant.as_deref().unwrap_or(default).strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !parts.iter().all(is_word) {
            return Err(PlatformError { text: text.into() });
        }
        match parts[..] {
            [os, architecture] => Ok(Self::normal(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normal(os, architecture, Some(variant))),
            _ => Err(PlatformError { text: text.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match text.parse::<Platform>() {
            Ok(platform) => platform.to_string(),
            Err(_) => "refused".into(),
        };
        assert_eq!(actual, expected, "parsing {text:?}");
    }

    #[test]
    fn aliases_become_the_usual_names() {
        check("linux/x86_64", "linux/amd64");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("Linux/AMD64", "linux/amd64");
        check("linux/arm/v6", "linux/arm/v6");
    }

    #[test]
    fn other_forms_are_refused() {
        check("", "refused");
        check("amd64", "refused");
        check("linux//v7", "refused");
        check("linux/arm/v7/v7", "refused");
        check("linux/a b", "refused");
    }

    #[track_caller]
    fn check_distance(image: &str, wanted: &str, expected: Option<u32>) {
        let image: Platform = image.parse().unwrap();
        assert_eq!(image.distance(&wanted.parse().unwrap()), expected, "{image} on {wanted}");
    }

    #[test]
    fn an_older_variant_runs_on_a_newer_processor_only() {
        check_distance("linux/arm/v6", "linux/arm/v7", Some(1));
        check_distance("linux/arm/v7", "linux/arm/v6", None);
        check_distance("linux/amd64", "linux/amd64/v3", Some(2));
        check_distance("linux/amd64/v3", "linux/amd64", None);
        check_distance("linux/arm64", "linux/arm64/v8", Some(0));
        check_distance("linux/amd64", "linux/arm64", None);
        check_distance("windows/amd64", "linux/amd64", None);
    }
}
