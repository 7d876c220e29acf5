//! From what the user calls a version to an object.

use super::object_id::ObjectId;
use super::{GitErrorKind, GitRequest};

/// One name that a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) name: String,
    pub(crate) id: ObjectId,
    /// What a tag finally points to.
    pub(crate) peeled: Option<ObjectId>,
}

/// What a server has.
#[derive(Debug, Default, Clone)]
pub(crate) struct Refs {
    pub(crate) refs: Vec<Advertised>,
    /// The branch that `HEAD` stands for.
    pub(crate) default: Option<String>,
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The whole name, such as `refs/heads/main`; `None` for a commit.
    pub(crate) name: Option<String>,
    pub(crate) id: ObjectId,
}

/// The three places where a name is looked for, in the order in which they win.
pub(crate) fn candidates(reference: &str) -> [String; 3] {
    let under =
        |place: &str| format!("{place}{}", reference.strip_prefix(place).unwrap_or(reference));
    [under("refs/"), under("refs/heads/"), under("refs/tags/")]
}

/// Finds the reference of `request` among `refs`. The messages are those of other builders.
pub(crate) fn resolve(request: &GitRequest, refs: &Refs) -> Result<Wanted, GitErrorKind> {
    let reference = match (&request.reference, &refs.default) {
        (Some(reference), _) => reference,
        (None, Some(default)) => default,
        (None, None) => return Err(GitErrorKind::NoDefault),
    };
    let find = |name: &String| refs.refs.iter().find(|known| known.name == *name);
    let Some(found) = candidates(reference).iter().find_map(find) else {
        let output = similar(reference, refs);
        return Err(GitErrorKind::NoReference { reference: reference.clone(), output });
    };
    Ok(Wanted { name: Some(found.name.clone()), id: found.id })
}

/// What `git ls-remote` prints for `reference`: every name that ends in it.
fn similar(reference: &str, refs: &Refs) -> String {
    let tail = format!("/{reference}");
    let matching = refs.refs.iter().filter(|known| format!("/{}", known.name).ends_with(&tail));
    matching.map(|known| [&known.id.to_string(), "\\t", &known.name, "\\n"].concat()).collect()
}

/// Whether the commit, or the tag that points to it, has the name that the user expects.
pub(crate) fn check(
    checksum: Option<&str>,
    wanted: &ObjectId,
    commit: &ObjectId,
) -> Result<(), GitErrorKind> {
    let Some(expected) = checksum.filter(|checksum| !checksum.is_empty()) else { return Ok(()) };
    let mut names = vec![wanted.to_string()];
    if commit != wanted {
        names.push(commit.to_string());
    }
    if names.iter().any(|name| name.starts_with(expected)) {
        return Ok(());
    }
    Err(GitErrorKind::Checksum { expected: expected.to_owned(), actual: names.join(" or ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ObjectId {
        let text: String = std::iter::repeat_n(digit, 40).collect();
        ObjectId::parse(text.as_bytes()).expect("a name")
    }

    #[track_caller]
    fn check_name(reference: Option<&str>, expected: &str) {
        let known = [
            ("HEAD", '1'),
            ("refs/heads/main", '1'),
            ("refs/heads/both", '2'),
            ("refs/tags/both", '3'),
            ("refs/tags/v1", '4'),
            ("refs/pull/7/head", '5'),
            ("refs/heads/refs/tags/v1", '6'),
        ];
        let new = |(name, digit): (&str, char)| Advertised {
            name: name.into(),
            id: id(digit),
            peeled: None,
        };
        let refs = Refs {
            refs: known.into_iter().map(new).collect(),
            default: Some("refs/heads/main".into()),
        };
        let request =
            GitRequest { reference: reference.map(str::to_owned), ..GitRequest::default() };
        let actual = match resolve(&request, &refs) {
            Ok(wanted) => wanted.name.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{reference:?}");
    }

    #[test]
    fn branches_win_over_tags_and_whole_names_over_both() {
        check_name(None, "refs/heads/main");
        check_name(Some("main"), "refs/heads/main");
        check_name(Some("both"), "refs/heads/both");
        check_name(Some("refs/tags/both"), "refs/tags/both");
        check_name(Some("v1"), "refs/tags/v1");
        check_name(Some("tags/v1"), "refs/tags/v1");
        check_name(Some("pull/7/head"), "refs/pull/7/head");
    }

    #[test]
    fn a_name_that_is_not_there_is_reported_with_what_is_similar() {
        check_name(Some("nope"), "repository does not contain ref nope, output: \"\"");
        check_name(
            Some("7/head"),
            "repository does not contain ref 7/head, output: \
             \"5555555555555555555555555555555555555555\\trefs/pull/7/head\\n\"",
        );
        check_name(
            Some("refs/heads/v1"),
            "repository does not contain ref refs/heads/v1, output: \"\"",
        );
    }

    #[test]
    fn a_checksum_is_the_beginning_of_the_commits_or_the_tags_name() {
        let checked = |checksum: &str, wanted, commit| match check(Some(checksum), &wanted, &commit)
        {
            Ok(()) => "fits".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(checked("1111", id('1'), id('1')), "fits");
        assert_eq!(checked("2", id('1'), id('2')), "fits");
        let ones = "1".repeat(40);
        assert_eq!(
            checked("12", id('1'), id('1')),
            format!("expected checksum to match 12, got {ones}")
        );
        let twos = "2".repeat(40);
        assert_eq!(
            checked("3", id('1'), id('2')),
            format!("expected checksum to match 3, got {ones} or {twos}")
        );
    }
}
