//! A command in a container, as a Kubernetes node would run it.

mod bundle;
pub(crate) mod manifest;
mod seccomp;
mod spec;
mod usage;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use self::bundle::Bundle;
use self::usage::Meter;
pub use self::usage::Usage;
use crate::command::{Captured, capture, code_of, run_for, wait_until};

/// What a pod may do; each is what containerd makes of a security context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// User 0, docker's 14 capabilities, seccomp `RuntimeDefault`, masked paths: an ordinary pod without a security context.
    Root,
    /// The same in a user namespace (`hostUsers: false`): ids 0..65535 are 100000.. outside.
    UserNamespace,
    /// Pod Security Standard *restricted*: user 1000, no capability, `no_new_privs`, seccomp `RuntimeDefault`.
    Restricted,
    /// User 1000 without capabilities, but no seccomp filter and no `no_new_privs`: `runAsNonRoot` alone.
    UnconfinedNonRoot,
    /// Not a pod: a disposable machine. No filter, nothing masked, and the capabilities of a machine's root. This is where a
    /// build may be asked to delete the host's files.
    Workstation,
}

/// A pod to be run: a root directory, a profile, and what is mounted into it.
///
/// The root directory is the lower layer of an overlay and stays untouched. The pod shares the network of this machine,
/// so that a registry on loopback is reachable.
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `run` or `spawn` is called"]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in a security context"
)]
pub struct Pod {
    root: PathBuf,
    profile: Profile,
    user: Option<(u32, u32)>,
    owned_root: bool,
    host_processes: bool,
    capabilities: Option<Vec<String>>,
    no_new_privileges: bool,
    unconfined: bool,
    read_only_root: bool,
    env: Vec<(String, String)>,
    binds: Vec<Bind>,
    work_dir: String,
    memory: Option<u64>,
    cpus: Option<f64>,
    hosts: String,
    resolv_conf: Option<String>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
struct Bind {
    source: PathBuf,
    destination: String,
    read_only: bool,
}

impl Pod {
    /// An ordinary root pod on top of `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            profile: Profile::Root,
            user: None,
            owned_root: false,
            host_processes: false,
            capabilities: None,
            no_new_privileges: false,
            unconfined: false,
            read_only_root: false,
            env: Vec::new(),
            binds: Vec::new(),
            work_dir: "/".to_owned(),
            memory: None,
            cpus: None,
            hosts: "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n".to_owned(),
            resolv_conf: None,
            timeout: Duration::from_mins(5),
        }
    }

    /// Chooses the profile.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Runs as this user and group instead of the profile's.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Gives everything in the root directory to the pod's user, as an image made for that user would.
    pub fn owned_root(mut self) -> Self {
        self.owned_root = true;
        self
    }

    /// Shares the process namespace of this machine (`hostPID: true`).
    pub fn host_processes(mut self) -> Self {
        self.host_processes = true;
        self
    }

    /// Has exactly these capabilities, such as `CAP_CHOWN`, instead of the profile's. As in a cluster, they are in force for
    /// user 0 only.
    pub fn capabilities(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.capabilities = Some(names.into_iter().collect());
        self
    }

    /// `allowPrivilegeEscalation: false`: no program gains a right by being executed.
    pub fn no_new_privileges(mut self) -> Self {
        self.no_new_privileges = true;
        self
    }

    /// seccomp `Unconfined`: no filter of system calls.
    pub fn unconfined(mut self) -> Self {
        self.unconfined = true;
        self
    }

    /// `readOnlyRootFilesystem: true`.
    pub fn read_only_root(mut self) -> Self {
        self.read_only_root = true;
        self
    }

    /// Adds an environment variable; a later value replaces an earlier one.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != key);
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Mounts a host path into the pod.
    pub fn bind(mut self, source: impl Into<PathBuf>, destination: &str) -> Self {
        self.binds.push(Bind {
            source: source.into(),
            destination: destination.to_owned(),
            read_only: false,
        });
        self
    }

    /// Mounts a host path into the pod, read-only.
    pub fn bind_read_only(mut self, source: impl Into<PathBuf>, destination: &str) -> Self {
        self.binds.push(Bind {
            source: source.into(),
            destination: destination.to_owned(),
            read_only: true,
        });
        self
    }

    /// Starts the command in this directory, which is made when it is missing.
    pub fn work_dir(mut self, path: &str) -> Self {
        path.clone_into(&mut self.work_dir);
        self
    }

    /// Limits memory, swap included.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Limits the processor time, as the pod can read in `/sys/fs/cgroup`; 0.4 is Harness's default.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Adds a line to `/etc/hosts`.
    pub fn hosts_line(mut self, line: &str) -> Self {
        self.hosts.push_str(line);
        self.hosts.push('\n');
        self
    }

    /// Replaces `/etc/resolv.conf`, which is this machine's otherwise.
    pub fn resolv_conf(mut self, text: &str) -> Self {
        self.resolv_conf = Some(text.to_owned());
        self
    }

    /// Kills the pod after this time; five minutes otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// Fails if the pod cannot be set up, which needs root and runc, or does not end in time. A command that ends with
    /// a failure is not an error; see [`PodOutput::code`].
    pub fn run<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<PodOutput> {
        self.spawn(args)?.wait()
    }

    /// Starts a command and returns while it runs.
    ///
    /// # Errors
    ///
    /// Fails if the pod cannot be set up. Nothing is left mounted then.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<RunningPod> {
        ensure!(
            crate::is_root(),
            "a pod needs root; run this test as root, or leave out the tests named `privileged_`"
        );
        let args: Vec<OsString> = args.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let bundle = Bundle::new(self)?;
        spec::write(self, &bundle, &args)?;
        let mut command = Command::new("runc");
        command.args(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        let captured = Captured::attach(&mut command)?;
        let meter = Meter::new(bundle.id());
        let started = Instant::now();
        let child = command.spawn().context("cannot start `runc`; is it installed?")?;
        Ok(RunningPod { child, captured, meter, started, deadline: started + self.timeout, bundle })
    }

    fn user_and_group(&self) -> (u32, u32) {
        self.user.unwrap_or(match self.profile {
            Profile::Root | Profile::UserNamespace | Profile::Workstation => (0, 0),
            Profile::Restricted | Profile::UnconfinedNonRoot => (1000, 1000),
        })
    }

    /// The id outside that is 0 inside.
    fn first_id(&self) -> u32 {
        if self.profile == Profile::UserNamespace { 100_000 } else { 0 }
    }
}

/// A pod that has been started. Dropping it kills it.
#[derive(Debug)]
pub struct RunningPod {
    // In the order in which they must go: the container before the mounts that it uses.
    child: Child,
    captured: Captured,
    meter: Meter,
    started: Instant,
    deadline: Instant,
    bundle: Bundle,
}

impl RunningPod {
    /// Waits until the pod has written `text` to either stream.
    ///
    /// # Errors
    ///
    /// Fails if the pod ends or its time is over before that.
    pub fn wait_for_output(&mut self, text: &str) -> anyhow::Result<()> {
        loop {
            let ended = self.child.try_wait()?.is_some();
            let (stdout, stderr) = self.captured.read()?;
            if stdout.contains(text) || stderr.contains(text) {
                return Ok(());
            }
            if ended || Instant::now() >= self.deadline {
                bail!("the pod never wrote `{text}`\n{stdout}{stderr}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs another command in the pod, as `kubectl exec` does, to its end.
    ///
    /// # Errors
    ///
    /// Fails if `runc` cannot be started or the command does not end before the pod must. One that ends with a failure, or is not
    /// there, is not an error.
    pub fn exec<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<crate::Output> {
        // Before that there is nothing that could be entered.
        while !self.is_running() {
            ensure!(Instant::now() < self.deadline, "the pod has not started in time");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut command = Command::new("runc");
        command.args(["exec", self.bundle.id()]).args(args);
        run_for(&mut command, self.deadline.saturating_duration_since(Instant::now()))
    }

    fn is_running(&self) -> bool {
        let state = capture(Command::new("runc").args(["state", self.bundle.id()]));
        let state = state.ok().and_then(|state| serde_json::from_slice(&state).ok());
        state.is_some_and(|state: serde_json::Value| state["status"] == "running")
    }

    /// Sends a signal, such as `TERM`, to the pod's first process, as a kubelet does.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        capture(Command::new("runc").args(["kill", self.bundle.id(), name])).map(drop)
    }

    /// The pod's root as seen from outside, mounts of the pod not included.
    pub fn root(&self) -> PathBuf {
        self.bundle.root()
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// Fails if the pod does not end in time; it has been killed then, and the error holds its output.
    pub fn wait(self) -> anyhow::Result<PodOutput> {
        self.wait_and_inspect(|_| ()).map(|(output, ())| output)
    }

    /// Waits for the end and looks at the root that the pod leaves, before it is deleted.
    ///
    /// # Errors
    ///
    /// As [`RunningPod::wait`].
    pub fn wait_and_inspect<T>(
        mut self,
        look: impl FnOnce(&Path) -> T,
    ) -> anyhow::Result<(PodOutput, T)> {
        let meter = &mut self.meter;
        let status = wait_until(&mut self.child, self.deadline, || meter.sample())?;
        let wall = self.started.elapsed();
        let (stdout, stderr) = self.captured.read()?;
        let Some(status) = status else {
            bail!("the pod did not end in {wall:.0?}\n{stdout}{stderr}");
        };
        let output = PodOutput {
            code: code_of(status),
            stdout,
            stderr,
            termination_message: self.bundle.termination_message(),
            usage: self.meter.usage(wall),
        };
        Ok((output, look(&self.bundle.root())))
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Deleting with force kills everything in the container; that fails only when it has ended by itself.
            drop(capture(Command::new("runc").args(["delete", "--force", self.bundle.id()])));
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// How a pod ended, what it said and what it used.
#[derive(Clone, Debug)]
pub struct PodOutput {
    /// The exit code, 128 + N after signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// What was written to `/dev/termination-log`.
    pub termination_message: String,
    /// Time and memory.
    pub usage: Usage,
}

impl PodOutput {
    /// Returns itself after checking the exit code.
    ///
    /// # Panics
    ///
    /// Panics with the whole output when the command failed.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "the check is worth the call already")]
    pub fn assert_success(self) -> Self {
        assert_eq!(self.code, 0, "the pod failed\n{self}");
        self
    }
}

impl fmt::Display for PodOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = crate::Output {
            code: self.code,
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
        };
        write!(f, "{plain}----- usage -----\n{}", self.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busybox() -> Pod {
        Pod::new(crate::base::busybox().unwrap().root())
    }

    fn stdout_of(pod: &Pod, script: &str) -> String {
        pod.run(["sh", "-c", script]).unwrap().assert_success().stdout
    }

    #[test]
    fn privileged_a_root_pod_has_the_fourteen_capabilities_and_no_more() {
        let status = stdout_of(
            &busybox(),
            "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status | tr -d '\\t'",
        );
        assert_eq!(
            status,
            "CapInh:0000000000000000\nCapPrm:00000000a80425fb\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\n\
             CapAmb:0000000000000000\nNoNewPrivs:0\nSeccomp:2\n"
        );
    }

    #[test]
    fn privileged_a_restricted_pod_is_user_1000_without_any_capability() {
        let pod = busybox().profile(Profile::Restricted);
        let status = stdout_of(
            &pod,
            "id -u; grep -E '^(CapBnd|NoNew|Seccomp:)' /proc/self/status | tr -d '\\t'",
        );
        assert_eq!(status, "1000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n");
    }

    #[test]
    fn privileged_a_pod_without_sys_admin_can_neither_mount_nor_unshare() {
        for profile in [Profile::Root, Profile::UserNamespace, Profile::Restricted] {
            let script = "mkdir -p /tmp/m; mount -t tmpfs t /tmp/m 2>/dev/null; echo $?; unshare -U true 2>/dev/null; echo $?";
            let answers = stdout_of(&busybox().profile(profile).owned_root(), script);
            assert!(!answers.lines().any(|code| code == "0"), "{profile:?} allows it: {answers}");
        }
    }

    #[test]
    fn privileged_a_pod_in_a_user_namespace_owns_its_root() {
        let pod = busybox().profile(Profile::UserNamespace);
        let seen = stdout_of(
            &pod,
            "stat -c %u:%g /bin /etc/passwd; tr -s ' ' </proc/self/uid_map; chown 5:6 /etc/passwd",
        );
        assert_eq!(seen, "0:0\n0:0\n 0 100000 65536\n");
    }

    #[test]
    fn privileged_a_workstation_may_unshare_and_has_no_trace_of_kubernetes() {
        let pod = busybox().profile(Profile::Workstation);
        let seen = stdout_of(
            &pod,
            "unshare -m true && echo may; env | grep -c KUBERNETES; ls /var; grep Seccomp: /proc/self/status",
        );
        assert_eq!(seen, "may\n0\nSeccomp:\t0\n");
    }

    #[test]
    fn privileged_exit_code_streams_mounts_and_environment_come_through() {
        let dir = crate::scratch_dir("bind-").unwrap();
        crate::Tree::new().file("f", "bound\n").write_to(dir.path()).unwrap();
        let pod = busybox()
            .bind_read_only(dir.path(), "/in")
            .env("GREETING", "hello")
            .hosts_line("127.0.0.1 registry.test");
        let script = "cat /in/f; touch /in/g 2>/dev/null || echo ro; echo $GREETING; tail -n 1 /etc/hosts; \
                      cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; \
                      echo done > /dev/termination-log; echo oops >&2; exit 7";
        let output = pod.run(["sh", "-c", script]).unwrap();
        assert_eq!((output.code, output.stderr.as_str()), (7, "oops\n"));
        assert_eq!(output.stdout, "bound\nro\nhello\n127.0.0.1 registry.test\nci\n");
        assert_eq!(output.termination_message, "done\n");
    }

    #[test]
    fn privileged_the_root_directory_is_not_changed_by_a_pod() {
        let base = crate::base::busybox().unwrap();
        let before = crate::listing(&base.root()).unwrap();
        let pod = Pod::new(base.root());
        let (output, left) = pod
            .spawn(["sh", "-c", "rm -rf /etc; echo new > /new"])
            .unwrap()
            .wait_and_inspect(|root| (root.join("new").exists(), root.join("etc/passwd").exists()))
            .unwrap();
        assert_eq!(output.assert_success().stdout, "");
        assert_eq!(left, (true, false), "the pod's own root is what it left");
        assert_eq!(crate::listing(&base.root()).unwrap(), before);
    }

    #[test]
    fn privileged_a_processor_limit_can_be_read_inside() {
        let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max";
        for profile in [Profile::Root, Profile::UserNamespace] {
            let pod = busybox().profile(profile).cpus(0.5);
            assert_eq!(stdout_of(&pod, script), "50000\n", "{profile:?}");
        }
    }

    #[test]
    fn privileged_processes_of_this_machine_are_seen_only_on_request() {
        let script = "readlink /proc/self/ns/pid";
        let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        assert_eq!(stdout_of(&busybox().host_processes(), script).trim(), own);
        assert_ne!(stdout_of(&busybox(), script).trim(), own);
    }

    #[test]
    fn privileged_memory_and_processor_use_are_measured() {
        // The shell holds the variable while it sleeps.
        let script = "x=$(head -c 40000000 /dev/zero | tr '\\0' a); sleep 0.5; echo ${#x}";
        let output = busybox().run(["sh", "-c", script]).unwrap().assert_success();
        let usage = output.usage;
        assert_eq!(output.stdout, "40000000\n");
        assert!((40_000_000..200_000_000).contains(&usage.peak_anonymous), "{usage}");
        assert!(usage.peak_total >= usage.peak_anonymous, "{usage}");
        assert!(usage.cpu > Duration::from_millis(10) && usage.cpu < usage.wall * 2, "{usage}");
    }

    #[test]
    fn privileged_a_memory_limit_holds() {
        let output = busybox()
            .memory(32 << 20)
            .run(["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"])
            .unwrap();
        assert_eq!(output.code, 137, "the kernel kills what grows beyond the limit\n{output}");
    }

    #[test]
    fn privileged_a_pod_that_takes_too_long_is_killed_and_leaves_nothing() {
        let pod = busybox().timeout(Duration::from_millis(300));
        let running = pod.spawn(["sleep", "1000"]).unwrap();
        let (id, dir) = (running.bundle.id().to_owned(), running.bundle.dir().to_owned());
        let error = running.wait().unwrap_err();
        assert!(error.to_string().starts_with("the pod did not end in"), "{error}");
        assert!(!dir.exists(), "the bundle is deleted");
        assert!(!Path::new("/run/runc").join(&id).exists(), "the container is deleted");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&id), "the overlay is unmounted");
    }

    #[test]
    fn privileged_a_signal_reaches_the_first_process() {
        let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let mut running = busybox().spawn(["sh", "-c", script]).unwrap();
        running.wait_for_output("ready").unwrap();
        running.signal("TERM").unwrap();
        let output = running.wait().unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (5, "ready\ngot it\n"));
    }
}
