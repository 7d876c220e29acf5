//! A static executor in a pod.

use std::path::Path;

use anyhow::bail;
use testkit::Executor;

use super::{Contender, Job, Used};
use crate::bench::request::Mode;

/// What every pod may use, and what every executor is told.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Terms {
    /// In bytes.
    pub(in crate::bench) memory: u64,
    pub(in crate::bench) cpus: Option<f64>,
    /// More flags for the executor.
    pub(in crate::bench) flags: Vec<String>,
}

/// An executor at `/kaniko/executor` in an otherwise empty root. Whichever it is, pods and flags are the same.
#[derive(Debug)]
pub(in crate::bench) struct InPod {
    name: String,
    executor: Executor,
    terms: Terms,
}

impl InPod {
    pub(in crate::bench) fn new(name: &str, binary: &Path, terms: &Terms) -> anyhow::Result<Self> {
        // A dynamic program would find no loader in the empty root.
        crate::binary::check_static(binary)?;
        Ok(Self {
            name: name.to_owned(),
            executor: Executor::with_binary(binary)?,
            terms: terms.clone(),
        })
    }
}

impl Contender for InPod {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, _mode: Mode) -> bool {
        true
    }

    fn has_cache(&self) -> bool {
        true
    }

    fn build(&self, job: &Job<'_>) -> anyhow::Result<Used> {
        let mut pod = self
            .executor
            .pod()
            .bind_read_only(job.context, "/workspace")
            .memory(self.terms.memory)
            .timeout(job.workload.limit);
        if let Some(cpus) = self.terms.cpus {
            pod = pod.cpus(cpus);
        }
        let mut args = vec![
            "/kaniko/executor".to_owned(),
            "--context=dir:///workspace".to_owned(),
            "--dockerfile=/workspace/Dockerfile".to_owned(),
            format!("--build-arg=BASE={}", job.base()),
            format!("--destination={}", job.destination()),
            "--insecure".to_owned(),
            "--insecure-pull".to_owned(),
            // kaniko does not recognise every container as one.
            "--force".to_owned(),
        ];
        if job.mode == Mode::Redo {
            args.push("--snapshot-mode=redo".to_owned());
        }
        if job.workload.again {
            let cache = format!("--cache-repo={}", job.cache());
            args.extend(["--cache=true".to_owned(), "--cache-copy-layers=true".to_owned(), cache]);
        }
        args.extend_from_slice(&self.terms.flags);
        rustix::fs::sync();
        let output = pod.run(&args)?;
        if output.code != 0 {
            let said: Vec<&str> = output.stderr.lines().chain(output.stdout.lines()).collect();
            let last = said.len().saturating_sub(5);
            bail!("ended with exit code {}: {}", output.code, said[last..].join(" | "));
        }
        let usage = output.usage;
        Ok(Used {
            wall: usage.wall,
            cpu: Some(usage.cpu),
            peak_anonymous: Some(usage.peak_anonymous),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::contender::measure;
    use crate::bench::material::Material;
    use crate::bench::workload::WORKLOADS;

    use super::*;

    #[test]
    fn privileged_a_small_build_is_measured() {
        let base = testkit::base::debian().unwrap();
        let dir = testkit::scratch_dir("bench-").unwrap();
        let material = Material::new(&base.root()).unwrap();
        let context = WORKLOADS[0].prepare(dir.path(), &material).unwrap();
        let terms = Terms { memory: 500 << 20, cpus: None, flags: Vec::new() };
        let ebiko = InPod::new("ebiko", &testkit::executor_binary().unwrap(), &terms).unwrap();
        let measured = measure(&ebiko, &WORKLOADS[0], &context, Mode::Redo, &base).unwrap();
        // 64 KiB are copied in and copied once more, and do not compress to nothing.
        assert!((20_000..400_000).contains(&measured.new_layers), "{measured:?}");
        assert!(measured.base_layers > 20 << 20, "{measured:?}");
        assert!(measured.used.peak_anonymous > Some(1 << 20), "{measured:?}");
        assert!(measured.used.cpu.is_some_and(|cpu| cpu.as_millis() > 100), "{measured:?}");
    }

    #[test]
    fn privileged_a_build_that_fails_says_what_the_program_said() {
        let base = testkit::base::busybox().unwrap();
        let dir = testkit::scratch_dir("bench-").unwrap();
        let terms = Terms { memory: 500 << 20, cpus: None, flags: Vec::new() };
        let ebiko = InPod::new("ebiko", &testkit::executor_binary().unwrap(), &terms).unwrap();
        // There is no Dockerfile.
        let error = measure(&ebiko, &WORKLOADS[0], dir.path(), Mode::Full, &base).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("ended with exit code 1: "), "{error}");
        assert!(error.contains("Dockerfile"), "{error}");
    }
}
