//! `# syntax=`: which frontend a Dockerfile is written for.

use dockerfile_parser::{Diagnostic, Dockerfile, Span};
use ebiko_oci::Reference;

use crate::scope::BuildArgs;

/// Refuses a file that is not written for Docker's own frontend, whose language this is.
///
/// An image of that frontend may be a mirror's, so only the end of its name counts. Its version is not looked at: the
/// language has only grown.
pub(crate) fn check(dockerfile: &Dockerfile, build_args: &BuildArgs) -> Result<(), Diagnostic> {
    let (wanted, span) = match (build_args.get("BUILDKIT_SYNTAX"), &dockerfile.directives.syntax) {
        (Some(given), _) => (given, Span::default()),
        (None, Some(directive)) => (directive.value.as_str(), directive.value.span),
        (None, None) => return Ok(()),
    };
    let wanted = wanted.split_whitespace().next().unwrap_or_default();
    if wanted.is_empty() || is_dockers(wanted) {
        return Ok(());
    }
    let message = format!(
        "the frontend `{wanted}` cannot be loaded: only Docker's own language is built here"
    );
    Err(Diagnostic::error(span, message)
        .with_hint("remove the line, or name `docker/dockerfile:1` or a mirror of it"))
}

fn is_dockers(name: &str) -> bool {
    // What is built into BuildKit.
    if name == "dockerfile.v0" {
        return true;
    }
    name.parse::<Reference>().is_ok_and(|reference| {
        let last = reference.repository().rsplit('/').next().unwrap_or_default();
        matches!(last, "dockerfile" | "dockerfile-upstream")
    })
}

#[cfg(test)]
mod tests {
    use ebiko_oci::Platform;

    use super::*;
    use crate::BuildOptions;

    #[track_caller]
    fn check_file(text: &str, argument: Option<&str>, expected: &str) {
        let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let mut options = BuildOptions::new(Platform::linux("amd64"));
        options
            .build_args
            .extend(argument.map(|value| ("BUILDKIT_SYNTAX".into(), Some(value.into()))));
        let actual = match check(&file, &BuildArgs::new(&options)) {
            Ok(()) => "fine".to_owned(),
            Err(error) => format!("line {}: {}", file.source.line(error.span.start), error.message),
        };
        assert_eq!(actual, expected, "{text:?} {argument:?}");
    }

    const OTHER: &str = "cannot be loaded: only Docker's own language is built here";

    #[test]
    fn dockers_own_frontend_is_the_language_that_is_built() {
        for name in [
            "docker/dockerfile:1",
            "docker.io/docker/dockerfile:1.7-labs",
            "docker/dockerfile-upstream:master@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "mirror.example:5000/hub/docker/dockerfile",
            "dockerfile.v0",
            "docker/dockerfile:1 and more",
        ] {
            check_file(&format!("# syntax={name}\nFROM scratch\n"), None, "fine");
        }
        check_file("FROM scratch\n", None, "fine");
    }

    #[test]
    fn another_frontend_is_refused_at_its_line() {
        check_file(
            "#syntax=foobar\nFROM a\n",
            None,
            &format!("line 1: the frontend `foobar` {OTHER}"),
        );
        check_file(
            "# escape=`\n# syntax=example/pack\nFROM a\n",
            None,
            &format!("line 2: the frontend `example/pack` {OTHER}"),
        );
        check_file("FROM a\n", Some("x/y"), &format!("line 1: the frontend `x/y` {OTHER}"));
    }

    #[test]
    fn an_argument_wins_over_the_directive() {
        check_file("#syntax=foobar\nFROM a\n", Some("docker/dockerfile"), "fine");
    }
}
