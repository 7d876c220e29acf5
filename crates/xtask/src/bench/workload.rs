//! What is built: Dockerfiles and their contexts.

mod contexts;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

pub(super) use self::contexts::Writer;
use super::material::Material;

/// Changes with everything that is written into a context, so that what an older version left is not used.
const VERSION: u32 = 1;

/// One build to be measured.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// For people.
    pub(super) about: &'static str,
    /// A build that takes longer is ended and counts as failed.
    pub(super) limit: Duration,
    /// How much free disk a build needs with everything around it, in GiB.
    pub(super) disk: u64,
    /// Whether what is measured is the same build once more, with a layer cache.
    pub(super) again: bool,
    dockerfile: fn() -> String,
    context: fn(&mut Writer<'_>) -> anyhow::Result<()>,
}

/// The eight that the bars are about.
pub(super) const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "small",
        about: "a COPY and two short RUNs",
        limit: Duration::from_mins(5),
        disk: 2,
        again: false,
        dockerfile: small,
        context: contexts::small,
    },
    Workload {
        name: "steps",
        about: "20 short steps",
        limit: Duration::from_mins(10),
        disk: 2,
        again: false,
        dockerfile: steps,
        context: contexts::steps,
    },
    Workload {
        name: "files",
        about: "200,000 small files, six RUNs",
        limit: Duration::from_mins(15),
        disk: 5,
        again: false,
        dockerfile: files,
        context: contexts::maker,
    },
    Workload {
        name: "big",
        about: "a RUN that writes 1.3 GiB",
        limit: Duration::from_mins(15),
        disk: 8,
        again: false,
        dockerfile: || big(1344),
        context: contexts::chunk,
    },
    Workload {
        name: "context",
        about: "COPY of 30,000 files through .dockerignore",
        limit: Duration::from_mins(10),
        disk: 3,
        again: false,
        dockerfile: context,
        context: contexts::many_files,
    },
    Workload {
        name: "stages",
        about: "four stages on one base, COPY --from between",
        limit: Duration::from_mins(10),
        disk: 4,
        again: false,
        dockerfile: stages,
        context: contexts::maker,
    },
    Workload {
        name: "copy",
        about: "COPY, WORKDIR and ENV only",
        limit: Duration::from_mins(5),
        disk: 2,
        again: false,
        dockerfile: copy,
        context: contexts::application,
    },
    Workload {
        name: "many",
        about: "a RUN that makes 700,000 files",
        limit: Duration::from_mins(30),
        disk: 8,
        again: false,
        dockerfile: many,
        context: contexts::maker,
    },
];

/// What is wholly in the cache. It has its own bar.
pub(super) const CACHED: Workload = Workload {
    name: "cachehit",
    about: "the stages once more, with a layer cache",
    limit: Duration::from_mins(10),
    disk: 4,
    again: true,
    dockerfile: stages,
    context: contexts::maker,
};

/// Layers of growing size, for memory that must not grow with them.
pub(super) const FLAT: [Workload; 3] = [
    Workload {
        name: "100 MiB",
        about: "a RUN that writes 100 MiB",
        limit: Duration::from_mins(5),
        disk: 2,
        again: false,
        dockerfile: || big(100),
        context: contexts::chunk,
    },
    Workload {
        name: "1 GiB",
        about: "a RUN that writes 1 GiB",
        limit: Duration::from_mins(10),
        disk: 6,
        again: false,
        dockerfile: || big(1 << 10),
        context: contexts::chunk,
    },
    Workload {
        name: "8 GiB",
        about: "a RUN that writes 8 GiB",
        limit: Duration::from_mins(30),
        disk: 20,
        again: false,
        dockerfile: || big(8 << 10),
        context: contexts::chunk,
    },
];

impl Workload {
    /// The context below `dir`, with the Dockerfile in it; made when it is not there.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written. Nothing stands under the final name then.
    pub(super) fn prepare(&self, dir: &Path, material: &Material) -> anyhow::Result<PathBuf> {
        let path = dir.join(format!("{}-{VERSION}", self.name.replace(' ', "-")));
        if !path.exists() {
            let partial = path.with_extension("partial");
            if partial.exists() {
                std::fs::remove_dir_all(&partial)
                    .with_context(|| format!("cannot remove `{}`", partial.display()))?;
            }
            (self.context)(&mut Writer::new(&partial, material))?;
            std::fs::rename(&partial, &path)
                .with_context(|| format!("cannot rename `{}`", partial.display()))?;
        }
        std::fs::write(path.join("Dockerfile"), (self.dockerfile)())
            .with_context(|| format!("cannot write the Dockerfile in `{}`", path.display()))?;
        Ok(path)
    }
}

const FROM: &str = "ARG BASE\nFROM ${BASE}\n";

fn small() -> String {
    format!(
        "{FROM}COPY app /opt/app\nRUN echo built > /etc/built && chmod 755 /opt/app\n\
         RUN mkdir -p /var/lib/app && cp /opt/app /var/lib/app/copy\n"
    )
}

fn steps() -> String {
    let mut text = FROM.to_owned();
    for step in 1..=20 {
        // Infallible: the target is memory.
        let _ok = match step {
            1 => writeln!(text, "WORKDIR /srv/app"),
            4 | 9 | 14 => writeln!(text, "ENV STEP_{step}=value"),
            2 | 7 | 12 | 17 => writeln!(text, "COPY part-{step} part-{step}"),
            _ if step % 2 == 0 => writeln!(
                text,
                "RUN mkdir -p etc/{step} && for i in 1 2 3 4 5; do echo $i > etc/{step}/$i; done"
            ),
            _ => writeln!(text, "RUN echo {step} >> log && chmod 600 log && touch mark-{step}"),
        };
    }
    text
}

/// `make.pl COUNT LIMIT DIRECTORY` makes COUNT files of at most LIMIT bytes.
const MAKER: &str = "COPY make.pl pool /bench/\n";

fn files() -> String {
    format!(
        "{FROM}{MAKER}\
         RUN perl /bench/make.pl 200000 2048 /srv/files\n\
         RUN for i in 0 1 2 3 4 5 6 7 8 9; do echo changed > /srv/files/1$i/0/7; done\n\
         RUN rm -r /srv/files/3/4\n\
         RUN chmod 600 /srv/files/7/7/*\n\
         RUN for file in /srv/files/9/*/5; do echo more >> $file; done\n\
         RUN mv /srv/files/12/1 /srv/moved\n"
    )
}

fn many() -> String {
    format!("{FROM}{MAKER}RUN perl /bench/make.pl 700000 256 /srv/files\n")
}

/// A layer of so many MiB: copies of the chunk, which has 32, and its start for what is left.
fn big(mebibytes: u32) -> String {
    let (whole, rest) = (mebibytes / 32, mebibytes % 32);
    format!(
        "{FROM}COPY chunk /bench/\n\
         RUN mkdir -p /opt/data && for i in $(seq {whole}); do cp /bench/chunk /opt/data/$i; done && \
         head -c {rest}M /bench/chunk > /opt/data/rest\n"
    )
}

fn context() -> String {
    format!("{FROM}WORKDIR /app\nCOPY . .\nRUN find . -type f | wc -l > /count\n")
}

fn stages() -> String {
    "ARG BASE\n\
     FROM ${BASE} AS tools\n\
     COPY make.pl pool /bench/\n\
     RUN perl /bench/make.pl 3000 8192 /opt/tools\n\
     FROM ${BASE} AS library\n\
     COPY --from=tools /bench /bench\n\
     COPY --from=tools /opt/tools/0 /opt/tools\n\
     RUN perl /bench/make.pl 5000 16384 /opt/library && cp -r /opt/tools/1 /opt/library/tools\n\
     FROM ${BASE} AS assets\n\
     COPY --from=tools /bench /bench\n\
     RUN perl /bench/make.pl 2000 32768 /opt/assets\n\
     FROM ${BASE}\n\
     COPY --from=library /opt/library /opt/library\n\
     COPY --from=assets /opt/assets /opt/assets\n\
     RUN find /opt -type f | wc -l > /count\n"
        .to_owned()
}

fn copy() -> String {
    format!("{FROM}WORKDIR /srv/app\nENV MODE=production\nCOPY app .\nCOPY settings /etc/app/\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfiles_are_as_long_as_they_say() {
        let count = |text: &str, word: &str| {
            text.lines().filter(|line| line.split(' ').next() == Some(word)).count()
        };
        let steps = steps();
        assert_eq!(steps.lines().count(), 22, "{steps}");
        assert_eq!(count(&steps, "RUN"), 12, "{steps}");
        assert_eq!(count(&files(), "RUN"), 6);
        assert_eq!(count(&stages(), "FROM"), 4);
        assert_eq!(count(&copy(), "RUN"), 0);
        let big = big(100);
        assert!(big.contains("seq 3)") && big.contains("head -c 4M "), "{big}");
    }

    #[test]
    fn every_dockerfile_parses() {
        for workload in WORKLOADS.iter().chain(&FLAT) {
            let text = (workload.dockerfile)();
            if let Err(errors) = dockerfile_parser::Dockerfile::parse("Dockerfile", text.as_bytes())
            {
                panic!("{}: {errors}", workload.name);
            }
        }
    }
}
