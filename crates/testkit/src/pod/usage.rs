//! What a pod used, read from its cgroup while it runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time and memory of a pod, its children included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From the start of runc to the end.
    pub wall: Duration,
    /// Processor time, as last seen before the end.
    pub cpu: Duration,
    /// The largest sum of anonymous and shared memory seen, in bytes. Sampled every few milliseconds: what is shorter may be missed.
    pub peak_anonymous: u64,
    /// The largest use that the kernel counted, page cache included, in bytes.
    pub peak_total: u64,
}

impl fmt::Display for Usage {
    #[expect(clippy::cast_precision_loss, reason = "for people, who read one digit")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "wall {:.2?}, cpu {:.2?}", self.wall, self.cpu)?;
        let (anonymous, total) = (mebibytes(self.peak_anonymous), mebibytes(self.peak_total));
        writeln!(f, "peak anonymous memory {anonymous:.1} MiB, with page cache {total:.1} MiB")
    }
}

/// Reads the cgroup of one pod, version 1 or 2.
#[derive(Debug)]
pub(super) struct Meter {
    files: Files,
    seen: Usage,
}

#[derive(Debug)]
struct Files {
    memory_stat: PathBuf,
    /// The names in `memory_stat` whose sum is the memory that cannot be dropped.
    anonymous: [&'static str; 2],
    memory_peak: PathBuf,
    cpu: Cpu,
}

#[derive(Debug)]
enum Cpu {
    /// Version 1: a file with nanoseconds.
    Nanoseconds(PathBuf),
    /// Version 2: `usage_usec` among others.
    Stat(PathBuf),
}

impl Meter {
    pub(super) fn new(cgroup: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let files = if top.join("cgroup.controllers").exists() {
            let own = top.join(cgroup);
            Files {
                memory_stat: own.join("memory.stat"),
                anonymous: ["anon", "shmem"],
                memory_peak: own.join("memory.peak"),
                cpu: Cpu::Stat(own.join("cpu.stat")),
            }
        } else {
            let memory = top.join("memory").join(cgroup);
            Files {
                memory_stat: memory.join("memory.stat"),
                anonymous: ["total_rss", "total_shmem"],
                memory_peak: memory.join("memory.max_usage_in_bytes"),
                cpu: Cpu::Nanoseconds(top.join("cpuacct").join(cgroup).join("cpuacct.usage")),
            }
        };
        Self { files, seen: Usage::default() }
    }

    /// Looks once. The cgroup is not there yet at the start and not any more at the end; both are no news.
    pub(super) fn sample(&mut self) {
        if let Ok(stat) = std::fs::read_to_string(&self.files.memory_stat) {
            let anonymous = self.files.anonymous.iter().filter_map(|name| field(&stat, name)).sum();
            self.seen.peak_anonymous = self.seen.peak_anonymous.max(anonymous);
        }
        if let Some(total) = number(&self.files.memory_peak) {
            self.seen.peak_total = self.seen.peak_total.max(total);
        }
        let cpu = match &self.files.cpu {
            Cpu::Nanoseconds(path) => number(path).map(Duration::from_nanos),
            Cpu::Stat(path) => {
                let stat = std::fs::read_to_string(path).unwrap_or_default();
                field(&stat, "usage_usec").map(Duration::from_micros)
            }
        };
        self.seen.cpu = self.seen.cpu.max(cpu.unwrap_or_default());
    }

    pub(super) fn usage(&self, wall: Duration) -> Usage {
        Usage { wall, ..self.seen }
    }
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let stat = "anon_thp 5\nanon 7\nfile 9\n";
        assert_eq!(field(stat, "anon"), Some(7));
        assert_eq!(field(stat, "shmem"), None);
    }
}
