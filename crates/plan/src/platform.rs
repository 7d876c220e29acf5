//! Platforms as `FROM --platform` names them.

use ebiko_oci::Platform;

const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const ARCHITECTURES: [&str; 26] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
    "aarch64",
    "x86_64",
];

/// Reads `os/architecture[/variant]`, or one of the two; the other is then that of `here`. The system may have a
/// version: `windows(10.0.17763)/amd64`.
pub fn parse(text: &str, here: &Platform) -> Result<Platform, String> {
    let quoted = crate::go::quote(text);
    if text.contains('*') {
        return Err(format!("{quoted}: wildcards not yet supported: invalid argument"));
    }
    if let Some(part) = text.splitn(4, '/').skip(1).find(|part| !is_component(part)) {
        return Err(format!(
            "{} is an invalid component of {quoted}: platform specifier component must match {}: invalid argument",
            crate::go::quote(part),
            crate::go::quote(COMPONENT),
        ));
    }
    let (system, rest) = text.split_once('/').map_or((text, None), |(os, rest)| (os, Some(rest)));
    let (name, version) = match system.split_once('(') {
        Some((name, version)) => {
            let version = version.strip_suffix(')').filter(|version| is_version(version));
            (
                name,
                Some(version.ok_or_else(|| {
                    format!("{quoted}: the version of the operating system is wrong")
                })?),
            )
        }
        None => (system, None),
    };
    let whole = match rest {
        Some(rest) => format!("{name}/{rest}"),
        None if SYSTEMS.contains(&name.to_ascii_lowercase().as_str()) || name == "macos" => {
            let variant = here.variant.iter().map(|variant| format!("/{variant}"));
            format!("{name}/{}{}", here.architecture, variant.collect::<String>())
        }
        None if ARCHITECTURES.contains(&name.to_ascii_lowercase().as_str()) => {
            format!("{}/{name}", here.os)
        }
        None => {
            return Err(format!(
                "{quoted}: unknown operating system or architecture: invalid argument"
            ));
        }
    };
    let mut platform: Platform = whole
        .parse()
        .map_err(|_| format!("{quoted}: cannot parse platform specifier: invalid argument"))?;
    platform.os_version = version.filter(|version| !version.is_empty()).map(ToOwned::to_owned);
    Ok(platform)
}

/// What the parts behind the operating system look like, as errors say it.
const COMPONENT: &str = "^[A-Za-z0-9_.-]+$";

fn is_component(text: &str) -> bool {
    !text.is_empty() && is_version(text)
}

fn is_version(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The platform with the version of its system.
pub(crate) fn in_full(platform: &Platform) -> String {
    let short = platform.to_string();
    match (&platform.os_version, short.strip_prefix(&platform.os)) {
        (Some(version), Some(rest)) => format!("{}({version}){rest}", platform.os),
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let here: Platform = "linux/arm/v6".parse().unwrap();
        let actual = match parse(text, &here) {
            Ok(platform) => in_full(&platform),
            Err(message) => format!("error: {message}"),
        };
        assert_eq!(actual, expected, "reading {text:?}");
    }

    #[test]
    fn a_platform_has_up_to_three_parts() {
        check("linux/amd64", "linux/amd64");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm/v7", "linux/arm/v7");
        check("Windows(10.0.17763.1)/amd64", "windows(10.0.17763.1)/amd64");
    }

    #[test]
    fn what_is_missing_is_that_of_the_build() {
        check("linux", "linux/arm/v6");
        check("x86_64", "linux/amd64");
        check("riscv64", "linux/riscv64");
    }

    #[test]
    fn anything_else_is_refused() {
        check(
            "what",
            r#"error: "what": unknown operating system or architecture: invalid argument"#,
        );
        check("linux/a*", r#"error: "linux/a*": wildcards not yet supported: invalid argument"#);
        check(
            "linux/",
            r#"error: "" is an invalid component of "linux/": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument"#,
        );
        for text in ["a/b/c/d", "li nux/amd64"] {
            check(
                text,
                &format!("error: \"{text}\": cannot parse platform specifier: invalid argument"),
            );
        }
        check(
            "linux(1/amd64",
            r#"error: "linux(1/amd64": the version of the operating system is wrong"#,
        );
    }
}
