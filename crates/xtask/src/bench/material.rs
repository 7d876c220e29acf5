//! Bytes that compress as an image's files do, the same in every run.

use std::path::Path;

use anyhow::{Context as _, ensure};

/// How much is kept in memory to cut files from.
const POOL: usize = 32 << 20;

/// The pool is real files and text in turns, in pieces of these sizes.
const FILES_PIECE: usize = 192 << 10;
const TEXT_PIECE: usize = 64 << 10;

/// Where the random numbers start. Another number gives other workloads, whose times cannot be compared with older ones.
const SEED: u64 = 0x6562_696b_6f00_0004;

/// `SplitMix64`: a sequence of 64-bit numbers that is the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(SEED)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or_default()
    }
}

/// Three quarters files of the base image's `/usr` in path order, one quarter pseudo-random text.
#[derive(Debug)]
pub(super) struct Material {
    pool: Vec<u8>,
}

impl Material {
    /// Reads the files of the base whose root directory this is.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be read or are too few.
    pub(super) fn new(base: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::with_capacity(POOL);
        for entry in walkdir::WalkDir::new(base.join("usr")).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_file() {
                let bytes = std::fs::read(entry.path())
                    .with_context(|| format!("cannot read `{}`", entry.path().display()))?;
                files.extend_from_slice(&bytes);
            }
            if files.len() >= POOL {
                break;
            }
        }
        ensure!(files.len() >= POOL, "the base has too few files to make workloads from");
        Ok(Self::of(&files, POOL))
    }

    /// A pool of that size, of these bytes of files, which are as many or more.
    pub(super) fn of(files: &[u8], pool: usize) -> Self {
        Self { pool: mixed(files, pool) }
    }

    /// The first bytes of the pool.
    pub(super) fn start(&self, length: usize) -> &[u8] {
        &self.pool[..length.min(self.pool.len())]
    }

    /// As many bytes from somewhere in the pool, which is longer.
    pub(super) fn cut(&self, random: &mut Random, length: usize) -> &[u8] {
        let length = length.min(self.pool.len());
        let at = random.below(self.pool.len() - length + 1);
        &self.pool[at..at + length]
    }
}

fn mixed(files: &[u8], length: usize) -> Vec<u8> {
    let mut random = Random::new();
    let words = vocabulary(&mut random);
    let mut pool = Vec::with_capacity(length + FILES_PIECE + TEXT_PIECE);
    for piece in files.chunks(FILES_PIECE).take(length.div_ceil(FILES_PIECE + TEXT_PIECE)) {
        pool.extend_from_slice(piece);
        let end = pool.len() + TEXT_PIECE;
        while pool.len() < end {
            // The smaller of two: words at the start are said more often, as in real text.
            let word = random.below(words.len()).min(random.below(words.len()));
            pool.extend_from_slice(words[word].as_bytes());
            pool.push(if random.below(12) == 0 { b'\n' } else { b' ' });
        }
        pool.truncate(end);
    }
    pool.truncate(length);
    pool
}

fn vocabulary(random: &mut Random) -> Vec<String> {
    const LETTERS: &[u8; 26] = b"etaoinshrdlcumwfgypbvkjxqz";
    let mut word = || {
        let length = 2 + random.below(8);
        (0..length).map(|_| char::from(LETTERS[random.below(26).min(random.below(26))])).collect()
    };
    (0..4096).map(|_| word()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_pool_of_the_right_size() {
        let files: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let pool = mixed(&files, 1 << 20);
        assert_eq!(pool.len(), 1 << 20);
        assert!(pool == mixed(&files, 1 << 20));
        assert_eq!(pool[..FILES_PIECE], files[..FILES_PIECE]);
        let text = &pool[FILES_PIECE..FILES_PIECE + TEXT_PIECE];
        assert!(text.iter().all(|byte| byte.is_ascii_lowercase() || b" \n".contains(byte)));
    }

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        // The first two values of the reference implementation for the seed 1234567.
        let mut random = Random(1_234_567);
        assert_eq!(
            [random.next(), random.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
