//! Tags that are made from a version: of the commit (`auto-tag`), or of the tag that was given (`expand-tag`).

use crate::version::{Dotted, Semantic};

/// The tags for the commit `ref`, if it is a tag or the default branch. `given` are the tags of the user, of which there may
/// be none but `latest`.
pub(crate) fn automatic(
    given: &[String],
    reference: &str,
    default_branch: &str,
    suffix: &str,
) -> Result<Vec<String>, String> {
    if given.len() > 1 || given.first().is_some_and(|tag| tag != "latest") {
        return Err(format!(
            "The auto-tag flag does not work with user provided tags [{}]",
            given.join(" ")
        ));
    }
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    let Some(tag) = reference.strip_prefix("refs/tags/") else {
        if branch != default_branch {
            return Err(format!(
                "Could not auto detect the tag. Skipping automated docker build for commit {reference}"
            ));
        }
        return Ok(vec![if suffix.is_empty() { "latest" } else { suffix }.to_owned()]);
    };
    let tags = of_version(tag.strip_prefix('v').unwrap_or(tag)).ok_or_else(|| {
        format!(
            "Invalid semantic version when auto detecting the tag. Skipping automated docker build for {reference}."
        )
    })?;
    let with_suffix = |tag: String| if suffix.is_empty() { tag } else { format!("{tag}-{suffix}") };
    Ok(tags.into_iter().map(with_suffix).collect())
}

/// `1.2.3` is also `1.2` and `1`; `0.2.3` is no `0`, because nothing holds from one `0.x` to the next; and what is not
/// released yet is only itself.
fn of_version(version: &str) -> Option<Vec<String>> {
    let Dotted { written, numbers, prerelease, metadata } = Dotted::parse(version)?;
    if !prerelease.is_empty() || !metadata.is_empty() {
        let numbers = numbers.map(|number| number.to_string()).join(".");
        let part = |sign: &str, text: &str| {
            if text.is_empty() { String::new() } else { format!("{sign}{text}") }
        };
        return Some(vec![format!("{numbers}{}{}", part("-", prerelease), part("+", metadata))]);
    }
    let least = if numbers[0] == 0 { 2 } else { 1 };
    Some((least..=3).map(|count| written[..count].join(".")).collect())
}

/// The tags that `tag` stands for if it is a version, otherwise itself.
pub(crate) fn expanded(tag: &str) -> Vec<String> {
    // What git calls `1.2.3+linux_amd64` is no version until it has no underscore.
    let spelled = tag.replace('_', "-");
    let with_v = format!("v{spelled}");
    let Some(version) = Semantic::parse(&spelled).or_else(|| Semantic::parse(&with_v)) else {
        return vec![tag.to_owned()];
    };
    if !version.prerelease.is_empty() {
        return vec![spelled.strip_prefix('v').unwrap_or(&spelled).to_owned()];
    }
    let Semantic { major, minor, patch, build, .. } = version;
    vec![
        format!("{major}{build}"),
        format!("{major}.{minor}{build}"),
        format!("{major}.{minor}.{patch}{build}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(reference: &str, branch: &str, suffix: &str) -> String {
        automatic(&["latest".into()], reference, branch, suffix)
            .map_or_else(|error| format!("E {error}"), |tags| tags.join(","))
    }

    #[test]
    fn a_tag_gives_its_version_and_the_versions_that_it_is_the_newest_of() {
        for (reference, suffix, expected) in [
            ("refs/tags/0.9.0", "", "0.9,0.9.0"),
            ("refs/tags/v0.9.0", "", "0.9,0.9.0"),
            ("refs/tags/1.0.0", "", "1,1.0,1.0.0"),
            ("refs/tags/v1.0.0", "linux-amd64", "1-linux-amd64,1.0-linux-amd64,1.0.0-linux-amd64"),
            (
                "refs/tags/v18.06.0",
                "nanoserver",
                "18-nanoserver,18.06-nanoserver,18.06.0-nanoserver",
            ),
            ("refs/tags/v1.9.2", "nanoserver", "1-nanoserver,1.9-nanoserver,1.9.2-nanoserver"),
            ("refs/tags/v1.0.0-alpha.1", "x", "1.0.0-alpha.1-x"),
            ("refs/tags/v1.0.0-beta.1", "", "1.0.0-beta.1"),
            ("refs/tags/v1.0.0+build.5", "", "1.0.0+build.5"),
            ("refs/tags/v1.0.0-rc.1+b5", "", "1.0.0-rc.1+b5"),
            ("refs/tags/v18.06.0-rc1", "", "18.6.0-rc1"),
            ("refs/tags/0.0.1", "", "0.0,0.0.1"),
            ("refs/tags/01.02.03", "", "01,01.02,01.02.03"),
            ("refs/tags/00.1.2", "", "00.1,00.1.2"),
        ] {
            assert_eq!(auto(reference, "main", suffix), expected, "{reference}");
        }
    }

    #[test]
    fn a_tag_that_is_no_version_is_an_error() {
        for tag in [
            "v1.0",
            "v1",
            "1.2.3.4",
            "latest",
            "release/1.0.0",
            "x1.0.0",
            "vv1.0.0",
            "V1.0.0",
            "20190203",
            "v1.0.0-rc_1",
            "v-1.0.0",
            "",
            "1.2.",
            "99999999999999999999.0.0",
        ] {
            let reference = format!("refs/tags/{tag}");
            let expected = format!(
                "E Invalid semantic version when auto detecting the tag. Skipping automated docker build for {reference}."
            );
            assert_eq!(auto(&reference, "main", ""), expected);
        }
    }

    #[test]
    fn only_the_default_branch_is_the_latest() {
        for (reference, branch, suffix, expected) in [
            ("refs/heads/master", "master", "", "latest"),
            ("", "", "", "latest"),
            ("main", "main", "", "latest"),
            ("", "", "linux-amd64", "linux-amd64"),
        ] {
            assert_eq!(auto(reference, branch, suffix), expected, "{reference}");
        }
        for (reference, branch) in
            [("refs/heads/master", "main"), ("", "main"), ("refs/pull/3/head", "main")]
        {
            let expected = format!(
                "E Could not auto detect the tag. Skipping automated docker build for commit {reference}"
            );
            assert_eq!(auto(reference, branch, ""), expected);
        }
    }

    #[test]
    fn tags_of_the_user_and_of_the_commit_exclude_each_other() {
        for (given, shown) in
            [(&["v1"][..], "[v1]"), (&["latest", "foo"], "[latest foo]"), (&[""], "[]")]
        {
            let given: Vec<String> = given.iter().map(|tag| (*tag).to_owned()).collect();
            assert_eq!(
                automatic(&given, "refs/tags/v1.0.0", "", ""),
                Err(format!("The auto-tag flag does not work with user provided tags {shown}"))
            );
        }
    }

    #[test]
    fn a_version_is_expanded_and_anything_else_is_left_alone() {
        for (tag, expected) in [
            ("v1.2.3", "1,1.2,1.2.3"),
            ("1.2.3", "1,1.2,1.2.3"),
            ("v1.2", "1,1.2,1.2.0"),
            ("1", "1,1.0,1.0.0"),
            ("v0.1.2", "0,0.1,0.1.2"),
            ("v1.2.3+build-info", "1+build-info,1.2+build-info,1.2.3+build-info"),
            ("v1.2.3+linux_amd64", "1+linux-amd64,1.2+linux-amd64,1.2.3+linux-amd64"),
            ("v1.2.3-rc1", "1.2.3-rc1"),
            ("v1.2.3-rc1+bld", "1.2.3-rc1+bld"),
            ("v1.2.3-rc_1", "1.2.3-rc-1"),
        ] {
            assert_eq!(expanded(tag).join(","), expected, "{tag}");
        }
        for tag in [
            "v1+bld",
            "latest",
            "v1.2-rc1",
            "v18.06.0",
            "v01.2.3",
            "1_2_3",
            "V1.2.3",
            "my_tag",
            "v1.2.3.4",
            "",
            "v1.2.3-01",
            "v1.2.3+",
            "v1.2.3-",
        ] {
            assert_eq!(expanded(tag), [tag], "{tag}");
        }
    }
}
