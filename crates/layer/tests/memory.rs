//! Memory does not grow with the number of files in a seekable layer. Alone in its program, so that nobody else's memory counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the test reads what the kernel says of it")]

mod support;

use std::io::{Read, sink};

use ebiko_layer::{Compression, compress};
use support::Tar;

/// An archive of many small files that is made while it is read, and how much memory the program had meanwhile.
struct Files {
    left: usize,
    current: Vec<u8>,
    position: usize,
    peak: u64,
}

impl Read for Files {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.position == self.current.len() && self.left > 0 {
            self.left -= 1;
            let number = self.left;
            let name = format!("srv/package-{:06}/module-{number:08}.js", number / 20);
            self.current = Tar::new().file(name, format!("export default {number};\n")).open();
            self.position = 0;
            if number.is_multiple_of(1000) {
                self.peak = self.peak.max(anonymous());
            }
        }
        let count = (&self.current[self.position..]).read(buffer)?;
        self.position += count;
        Ok(count)
    }
}

/// Bytes of anonymous memory.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

fn peak(members: usize, compression: Compression) -> u64 {
    let scratch = tempfile::tempdir().unwrap();
    let mut files = Files { left: members, current: Vec::new(), position: 0, peak: 0 };
    compress(&mut files, &mut sink(), compression, 2, Some(scratch.path())).unwrap();
    files.peak
}

#[test]
fn the_table_of_a_layer_takes_no_memory_for_each_file() {
    for compression in [Compression::Estargz { level: 1 }, Compression::ZstdChunked { level: 1 }] {
        let few = peak(6_000, compression);
        let many = peak(120_000, compression);
        // In memory it would be more than twice as much, even compressed; the allocator's own ups and downs are half of it.
        let grown = many.saturating_sub(few);
        assert!(grown < 4 << 20, "{compression:?}: {few} bytes for few, {many} for many");
    }
}
