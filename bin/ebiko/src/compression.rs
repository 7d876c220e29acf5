//! What the command line says about how layers are stored.

use anyhow::bail;
use ebiko_build::{Compression, DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL};

use crate::cli::{Cli, CompressionKind};

/// What `--compression` and `--compression-level` say.
pub(crate) fn compression(cli: &Cli) -> anyhow::Result<Compression> {
    let given = cli.compression_level;
    let level = |default, last| match given {
        // kaniko's default is -1, and it uses no number below 1 either.
        ..=0 => Ok(default),
        level if level <= last => Ok(level),
        level => {
            bail!("`--compression-level={level}` is more than {last}, the last level there is")
        }
    };
    Ok(match cli.compression {
        CompressionKind::None if given > 0 => {
            bail!(
                "`--compression-level={given}` cannot be used: `--compression=none` has no levels"
            )
        }
        CompressionKind::None => Compression::None,
        CompressionKind::Gzip => Compression::Gzip { level: level(DEFAULT_GZIP_LEVEL, 12)? },
        CompressionKind::Estargz => Compression::Estargz { level: level(DEFAULT_GZIP_LEVEL, 12)? },
        CompressionKind::Zstd => Compression::Zstd { level: level(DEFAULT_ZSTD_LEVEL, 22)? },
        CompressionKind::ZstdChunked => {
            Compression::ZstdChunked { level: level(DEFAULT_ZSTD_LEVEL, 22)? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &str) -> Result<Compression, String> {
        let arguments = ["executor"].into_iter().chain(arguments.split_whitespace());
        let cli = Cli::read(arguments.map(Into::into)).map_err(|error| error.to_string())?;
        compression(&cli).map_err(|error| error.to_string())
    }

    #[test]
    fn the_kinds_are_buildkits() {
        for (arguments, expected) in [
            ("", Compression::default()),
            ("--compression=gzip", Compression::default()),
            ("--compression=none", Compression::None),
            ("--compression=uncompressed", Compression::None),
            ("--compression=zstd", Compression::Zstd { level: DEFAULT_ZSTD_LEVEL }),
            ("--compression=estargz", Compression::Estargz { level: DEFAULT_GZIP_LEVEL }),
            ("--compression=zstd:chunked", Compression::ZstdChunked { level: DEFAULT_ZSTD_LEVEL }),
        ] {
            assert_eq!(check(arguments), Ok(expected), "{arguments}");
        }
        let error = check("--compression=lzma").unwrap_err();
        assert!(
            error.contains("[possible values: gzip, zstd, none, estargz, zstd:chunked]"),
            "{error}"
        );
    }

    #[test]
    fn a_level_is_one_that_its_kind_has() {
        let gzip = |level| Ok(Compression::Gzip { level });
        for (arguments, expected) in [
            ("--compression-level=-1", gzip(DEFAULT_GZIP_LEVEL)),
            ("--compression-level 0", gzip(DEFAULT_GZIP_LEVEL)),
            ("--compression-level -1", gzip(DEFAULT_GZIP_LEVEL)),
            ("--compression-level=12", gzip(12)),
            (
                "--compression-level=13",
                Err("`--compression-level=13` is more than 12, the last level there is".to_owned()),
            ),
            (
                "--compression=estargz --compression-level=12",
                Ok(Compression::Estargz { level: 12 }),
            ),
            ("--compression=zstd --compression-level=22", Ok(Compression::Zstd { level: 22 })),
            (
                "--compression=zstd:chunked --compression-level=23",
                Err("`--compression-level=23` is more than 22, the last level there is".to_owned()),
            ),
            ("--compression=none --compression-level=-1", Ok(Compression::None)),
            (
                "--compression=none --compression-level=3",
                Err("`--compression-level=3` cannot be used: `--compression=none` has no levels"
                    .to_owned()),
            ),
        ] {
            assert_eq!(check(arguments), expected, "{arguments}");
        }
    }
}
