//! Versions as two Go libraries read them, which differ.

/// A version of `golang.org/x/mod/semver`: it begins with `v`, and may lack minor and patch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Semantic<'t> {
    pub(crate) major: &'t str,
    pub(crate) minor: &'t str,
    pub(crate) patch: &'t str,
    /// With its `-`.
    pub(crate) prerelease: &'t str,
    /// With its `+`.
    pub(crate) build: &'t str,
}

impl<'t> Semantic<'t> {
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let short =
            |major, minor| Some(Self { major, minor, patch: "0", prerelease: "", build: "" });
        let (major, rest) = number(text.strip_prefix('v')?)?;
        if rest.is_empty() {
            return short(major, "0");
        }
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        if rest.is_empty() {
            return short(major, minor);
        }
        let (patch, rest) = number(rest.strip_prefix('.')?)?;
        let (before_build, build) = split_before(rest, '+');
        let is_prerelease = before_build.strip_prefix('-').is_some_and(|identifiers| {
            identifiers
                .split('.')
                .all(|identifier| is_identifier(identifier) && !has_leading_zero(identifier))
        });
        let is_build = build
            .strip_prefix('+')
            .is_some_and(|identifiers| identifiers.split('.').all(is_identifier));
        let is_valid = (before_build.is_empty() || is_prerelease) && (build.is_empty() || is_build);
        is_valid.then_some(Self { major, minor, patch, prerelease: before_build, build })
    }
}

/// A number without leading zeros, and what follows it.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (!digits.is_empty() && (digits == "0" || !digits.starts_with('0'))).then_some((digits, rest))
}

fn split_before(text: &str, separator: char) -> (&str, &str) {
    text.find(separator).map_or((text, ""), |at| text.split_at(at))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A version of `coreos/go-semver`: exactly three numbers, which may have leading zeros.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dotted<'t> {
    /// As they are written.
    pub(crate) written: [&'t str; 3],
    pub(crate) numbers: [i64; 3],
    pub(crate) prerelease: &'t str,
    pub(crate) metadata: &'t str,
}

impl<'t> Dotted<'t> {
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
        let (text, prerelease) = text.split_once('-').unwrap_or((text, ""));
        let is_valid =
            |identifiers: &str| identifiers.is_empty() || identifiers.split('.').all(is_identifier);
        if !is_valid(metadata) || !is_valid(prerelease) {
            return None;
        }
        let mut parts = text.splitn(3, '.');
        let written = [parts.next()?, parts.next()?, parts.next()?];
        let number = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let numbers = [number(written[0])?, number(written[1])?, number(written[2])?];
        Some(Self { written, numbers, prerelease, metadata })
    }
}
