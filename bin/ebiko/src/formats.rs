//! What the command line says about the media types of the image, and about its annotations.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use ebiko_build::{Compression, ImageFormat};

use crate::cli::{Cli, FormatName};
use crate::compression::compression;

/// What `--image-format` says.
pub(crate) fn format(cli: &Cli) -> Option<ImageFormat> {
    cli.image_format.map(|name| match name {
        FormatName::Docker => ImageFormat::Docker,
        FormatName::Oci => ImageFormat::Oci,
    })
}

/// Refuses what does not go together.
pub(crate) fn check(cli: &Cli) -> anyhow::Result<()> {
    let kind = match compression(cli)? {
        Compression::None | Compression::Gzip { .. } => None,
        Compression::Zstd { .. } => Some("zstd"),
        Compression::ZstdChunked { .. } => Some("zstd:chunked"),
        Compression::Estargz { .. } => Some("estargz"),
    };
    match (cli.image_format, kind, &cli.tar_path) {
        (Some(FormatName::Docker), Some(kind), _) => bail!(
            "`--compression={kind}` and `--image-format=docker` cannot be used together: Docker's media types do not know such \
             layers; `--image-format=oci` does"
        ),
        (Some(FormatName::Oci), _, Some(_)) => bail!(
            "`--tar-path` and `--image-format=oci` cannot be used together: such a tar holds no media types; `--oci-layout-path` \
             writes an image that has them"
        ),
        _ => Ok(()),
    }
}

/// What `--annotation` says. Of one key twice the last counts, as in kaniko.
pub(crate) fn annotations(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let annotation = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .with_context(|| format!("`--annotation={text}` must have the form `KEY=VALUE`"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(annotation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_cannot_be_are_refused_with_the_remedy() {
        let check = |arguments: &str| {
            let arguments = ["executor"].into_iter().chain(arguments.split_whitespace());
            let cli = Cli::read(arguments.map(Into::into)).unwrap();
            super::check(&cli).map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        for fine in [
            "",
            "--image-format=docker --tar-path=x --compression=none",
            "--image-format=oci --compression=estargz",
        ] {
            assert_eq!(check(fine), "", "{fine}");
        }
        for kind in ["zstd", "zstd:chunked", "estargz"] {
            let error = check(&format!("--image-format=docker --compression={kind}"));
            assert!(
                error.contains(kind) && error.ends_with("`--image-format=oci` does"),
                "{error}"
            );
        }
        assert!(check("--image-format=oci --tar-path=x").contains("--oci-layout-path"));
    }

    #[test]
    fn an_annotation_is_split_at_the_first_equals_sign() {
        let annotations = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            super::annotations(&texts).map_err(|error| error.to_string())
        };
        let read = annotations(&["a=b=c", "d=", "a=e"]).unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "e".to_owned()), ("d".to_owned(), String::new())]
        );
        for wrong in ["a", "=b"] {
            let error = annotations(&[wrong]).unwrap_err();
            assert!(error.contains("must have the form `KEY=VALUE`"), "{error}");
        }
    }
}
