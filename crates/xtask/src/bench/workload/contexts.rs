//! What lies beside the Dockerfiles.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::bench::material::{Material, Random};

/// Writes files of a context, with bytes from the material.
#[derive(Debug)]
pub(in crate::bench) struct Writer<'m> {
    dir: PathBuf,
    material: &'m Material,
    random: Random,
    /// Directories that are there already.
    made: BTreeSet<PathBuf>,
}

impl<'m> Writer<'m> {
    pub(super) fn new(dir: &Path, material: &'m Material) -> Self {
        Self { dir: dir.to_owned(), material, random: Random::new(), made: BTreeSet::new() }
    }

    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent()
            && self.made.insert(parent.to_owned())
        {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot create `{}`", parent.display()))?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// A file of exactly this size.
    fn sized(&mut self, path: &str, length: usize) -> anyhow::Result<()> {
        let material = self.material;
        let bytes = material.cut(&mut self.random, length);
        self.file(path, bytes)
    }

    /// A file of at most this size; small ones are more likely.
    fn up_to(&mut self, path: &str, limit: usize) -> anyhow::Result<()> {
        let length = self.random.below(limit).min(self.random.below(limit));
        self.sized(path, length)
    }
}

pub(super) fn small(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    writer.sized("app", 64 << 10)
}

pub(super) fn steps(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    for step in [2, 7, 12, 17] {
        writer.sized(&format!("part-{step}"), 16 << 10)?;
    }
    Ok(())
}

/// The program that makes files in a RUN, and what they are cut from.
pub(super) fn maker(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    writer.file("make.pl", include_bytes!("make.pl"))?;
    let pool = writer.material.start(1 << 20);
    writer.file("pool", pool)
}

/// 32 MiB.
pub(super) fn chunk(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    let chunk = writer.material.start(32 << 20);
    writer.file("chunk", chunk)
}

pub(super) fn application(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    writer.sized("app/bin/server", 8 << 20)?;
    for file in 0..1000 {
        writer.up_to(&format!("app/lib/{}/{file}.js", file / 50), 16 << 10)?;
    }
    writer.up_to("settings/main.conf", 4096)?;
    writer.up_to("settings/log.conf", 4096)
}

/// 30,000 files as a checkout has them after a build, of which 20,100 are for the image.
pub(super) fn many_files(writer: &mut Writer<'_>) -> anyhow::Result<()> {
    writer.file(".dockerignore", IGNORE.as_bytes())?;
    for file in 0..20_000 {
        writer.up_to(&format!("src/{}/{}/{file}.c", file / 1000, file / 50 % 20), 8 << 10)?;
    }
    for file in 0..6_000 {
        let package = file / 100;
        let path = format!("web/{}/node_modules/package-{package}/{file}.js", package % 5);
        writer.up_to(&path, 4 << 10)?;
    }
    for file in 0..2_000 {
        writer.up_to(&format!("src/{}/{file}.log", file / 100), 4 << 10)?;
    }
    for file in 0..1_000 {
        writer.up_to(&format!("docs/{}/{file}.md", file / 50), 4 << 10)?;
    }
    for file in 0..900 {
        writer.up_to(&format!("build/tmp-{}/{file}.o", file / 100), 16 << 10)?;
    }
    for file in 0..97 {
        writer.up_to(&format!("docs/public/{file}.html"), 4 << 10)?;
    }
    writer.up_to("src/keep.log", 4096)
}

const IGNORE: &str = "\
# what a build left, and what is not for the image
**/node_modules
**/*.log
!src/keep.log
docs/*
!docs/public
build/tmp-*/**
.git
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_context_has_thirty_thousand_files() {
        let dir = testkit::scratch_dir("workload-").unwrap();
        let material = Material::of(&vec![0; 1 << 20], 1 << 20);
        let mut writer = Writer::new(dir.path(), &material);
        writer.file("Dockerfile", b"").unwrap();
        many_files(&mut writer).unwrap();
        let files = walkdir::WalkDir::new(dir.path()).into_iter().map(Result::unwrap);
        assert_eq!(files.filter(|entry| entry.file_type().is_file()).count(), 30_000);
    }
}
