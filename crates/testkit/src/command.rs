//! Starting other programs and reading what they say.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Runs a command to its end and returns its standard output.
///
/// # Errors
///
/// Fails if it cannot be started (naming the program, so that a missing package is obvious) or ends with a failure,
/// with everything it wrote to standard error.
pub fn capture(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("cannot start `{}`; is it installed?", command.get_program().display())
    })?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

/// [`capture`] for programs that write text.
pub fn capture_text(command: &mut Command) -> anyhow::Result<String> {
    let bytes = capture(command)?;
    String::from_utf8(bytes)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// The command line as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command that may fail or never end; after `limit` it and everything in its process group is killed.
///
/// # Errors
///
/// Fails if it cannot be started or does not end in time.
pub fn run_for(command: &mut Command, limit: Duration) -> anyhow::Result<crate::Output> {
    use std::os::unix::process::CommandExt as _;
    let mut captured = Captured::attach(command)?;
    let mut child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let status = wait_until(&mut child, Instant::now() + limit, || {})?;
    if status.is_none() {
        if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            // Fails only if the group has just ended.
            let _ended = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        drop(child.wait());
    }
    let (stdout, stderr) = captured.read()?;
    match status {
        Some(status) => Ok(crate::Output { code: code_of(status), stdout, stderr }),
        None => bail!("`{}` did not end in {limit:.0?}\n{stdout}{stderr}", shown(command)),
    }
}

/// What a child wrote, kept in files so that no pipe can fill up and no grandchild can hold a pipe open.
#[derive(Debug)]
pub(crate) struct Captured {
    stdout: File,
    stderr: File,
}

impl Captured {
    /// Connects the standard streams of `command`: nothing to read, both outputs captured.
    pub(crate) fn attach(command: &mut Command) -> anyhow::Result<Self> {
        let stdout = tempfile::tempfile().context("cannot create a file for the output")?;
        let stderr = tempfile::tempfile().context("cannot create a file for the output")?;
        command.stdin(Stdio::null()).stdout(appending(&stdout)?).stderr(appending(&stderr)?);
        Ok(Self { stdout, stderr })
    }

    /// Everything written so far: standard output and standard error.
    pub(crate) fn read(&mut self) -> anyhow::Result<(String, String)> {
        Ok((read_from_start(&mut self.stdout)?, read_from_start(&mut self.stderr)?))
    }
}

/// A second descriptor with a position of its own: reading the first one must not move the writer's.
fn appending(file: &File) -> anyhow::Result<File> {
    use std::os::fd::AsRawFd as _;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().append(true).open(own).context("cannot reopen a file for the output")
}

fn read_from_start(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for `child`, calling `each_tick` in between; `None` when the time is over and the child still runs.
pub(crate) fn wait_until(
    child: &mut Child,
    deadline: Instant,
    mut each_tick: impl FnMut(),
) -> anyhow::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child")? {
            return Ok(Some(status));
        }
        each_tick();
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The exit code as a shell would report it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A server process that ends with this value, and with the test process if that is killed.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts `program` with both outputs going to `log`.
    ///
    /// `setpriv --pdeathsig` is what ends the server when the test runner kills a test that takes too long.
    pub(crate) fn start(program: &str, args: &[&str], log: &File) -> anyhow::Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        Ok(Self { child })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the server has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
