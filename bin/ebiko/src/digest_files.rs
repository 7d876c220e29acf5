//! Places that are written when everything else is done, and the files that say what was pushed.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use ebiko_oci::{Digest, Event, Observer, Reference};
use ebiko_transport::{Body, Method, Request, ShownUrl, Transport, Url, header};
use serde_json::json;

use crate::cli::Verbosity;
use crate::environment::Environment;
use crate::flags::DigestFlags;
use crate::report::Reporter;

/// Where a flag wants a text to go: a file, or an address. An address may hold a signature, so it is not printed.
#[derive(Clone)]
pub(crate) struct Target(String);

impl std::str::FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target(…)")
    }
}

/// The same, understood.
#[derive(Debug)]
enum Output {
    File(Place),
    Address(Box<Request>),
}

impl Output {
    fn plan(flag: &str, target: &Target, environment: &Environment) -> anyhow::Result<Self> {
        let Target(text) = target;
        if !text.contains("://") {
            return Ok(Self::File(Place::find(environment.absolute(Path::new(text)))));
        }
        if !text.starts_with("https://") {
            bail!("`{flag}` takes a file or an address that begins with https://");
        }
        // The error would repeat the address.
        let url = text
            .parse::<Url>()
            .ok()
            .with_context(|| format!("`{flag}` has an address that is none"))?;
        Ok(Self::Address(Box::new(put(url))))
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::File(place) => Some(place),
            Self::Address(_) => None,
        }
    }

    fn write(&self, text: &str, network: &Transport, reporter: &Reporter) -> anyhow::Result<()> {
        match self {
            Self::File(place) => write_file(&place.path, text, reporter),
            Self::Address(request) => send(request, text, network, reporter),
        }
    }
}

/// A `PUT` as kaniko sends it. What is sent is no secret, so it may follow a redirect.
fn put(url: Url) -> Request {
    Request::new(Method::PUT, url)
        .with_header(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"))
}

fn send(
    request: &Request,
    text: &str,
    network: &Transport,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let shown = ShownUrl::of(&request.url);
    let request = request.clone().with_body(Body::Bytes(text.into()));
    let response =
        network.send(&request).with_context(|| format!("cannot send the digest to `{shown}`"))?;
    if response.status().as_u16() >= 400 {
        bail!("cannot send the digest to `{shown}`: the server answered {}", response.status());
    }
    reporter.event(Event::Exported { path: &shown.to_string() });
    Ok(())
}

/// The files that say what was pushed, in kaniko's formats.
#[derive(Debug)]
pub(crate) struct DigestFiles {
    digest: Option<Output>,
    names: Option<Output>,
    tagged_names: Option<Output>,
    /// Google Cloud Build reads it.
    builder: Option<Place>,
}

impl DigestFiles {
    pub(crate) fn plan(flags: &DigestFlags, environment: &Environment) -> anyhow::Result<Self> {
        let output = |flag: &str, target: &Option<Target>| {
            target.as_ref().map(|target| Output::plan(flag, target, environment)).transpose()
        };
        let directory = environment.get_filled("BUILDER_OUTPUT").map(Path::new);
        Ok(Self {
            digest: output("--digest-file", &flags.digest)?,
            names: output("--image-name-with-digest-file", &flags.names)?,
            tagged_names: output("--image-name-tag-with-digest-file", &flags.tagged_names)?,
            builder: directory.map(|path| Place::find(environment.absolute(path).join("images"))),
        })
    }

    /// Where they are.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        let outputs = [&self.digest, &self.names, &self.tagged_names].into_iter().flatten();
        outputs.filter_map(Output::place).chain(&self.builder)
    }

    /// Writes what the flags ask for.
    pub(crate) fn write(
        &self,
        digest: Digest,
        destinations: &[Reference],
        network: &Transport,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        if let Some(output) = &self.digest {
            // No newline: kaniko writes none, and scripts splice the content into a reference.
            output.write(&digest.to_string(), network, reporter)?;
        }
        let lines = |name: &dyn Fn(&Reference) -> String| {
            let line = |destination| format!("{}@{digest}\n", name(destination));
            destinations.iter().map(line).collect::<Vec<_>>().concat()
        };
        if let Some(output) = &self.names {
            output.write(&lines(&Reference::name), network, reporter)?;
        }
        if let Some(output) = &self.tagged_names {
            output.write(&lines(&Reference::to_string), network, reporter)?;
        }
        Ok(())
    }

    /// Writes what Google Cloud Build reads, when everything is pushed.
    pub(crate) fn pushed(
        &self,
        digest: Digest,
        destinations: &[Reference],
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        let Some(place) = &self.builder else { return Ok(()) };
        let line = |name: &Reference| {
            format!("{}\n", json!({ "name": name.to_string(), "digest": digest.to_string() }))
        };
        write_file(&place.path, &destinations.iter().map(line).collect::<String>(), reporter)
    }
}

/// The names of `--destination`. An address instead of a name is told to the reporter.
pub(crate) fn destinations(
    texts: &[String],
    reporter: &Reporter,
) -> anyhow::Result<Vec<Reference>> {
    let destinations = texts
        .iter()
        .map(|text| {
            let text = without_scheme("--destination", text, reporter)?;
            text.parse().context("`--destination` does not name an image")
        })
        .collect::<anyhow::Result<Vec<Reference>>>()?;
    if let Some(pinned) = destinations.iter().find(|destination| destination.digest().is_some()) {
        bail!("`--destination={pinned}` has a digest; an image gets its digest from its content");
    }
    Ok(destinations)
}

/// A name without what makes an address of it: Woodpecker and others put the address of a registry in front of a name.
pub(crate) fn without_scheme<'t>(
    flag: &str,
    text: &'t str,
    reporter: &Reporter,
) -> anyhow::Result<Cow<'t, str>> {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Ok(text.into());
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    // What stands before the host is a password more often than not.
    ensure!(!host.contains('@'), "`{flag}` has a user in it; log in with a docker config instead");
    let is_hub = matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let path = path
        .strip_prefix("v1/")
        .or_else(|| path.strip_prefix("v2/"))
        .filter(|_| is_hub)
        .unwrap_or(path);
    let name = format!("{host}/{path}");
    let plain = if text.starts_with("http://") {
        "; for plain HTTP there is --insecure-registry"
    } else {
        ""
    };
    reporter.say(
        Verbosity::Warn,
        format!("`{flag}={text}` is an address and no name; it is taken for `{name}`{plain}"),
    );
    Ok(name.into())
}

/// A file or directory that is written when the build is over.
///
/// In a pod, the steps of the build can change the directories that lead to it, and a step that runs as somebody else can
/// put a link where everybody may write. Nothing that a step has put there is followed.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute, as the user wrote it.
    pub(crate) path: PathBuf,
    /// Where it led before the first step.
    real: PathBuf,
}

/// What is written to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

impl Place {
    /// Fails if nothing can be written there.
    #[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
    pub(crate) fn try_out(&self, kind: Kind) -> anyhow::Result<()> {
        if self.is_special() {
            return Ok(());
        }
        let shown = self.path.display();
        let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
        for path in self.real.ancestors() {
            match std::fs::metadata(path) {
                Ok(found) => {
                    let is_file_wanted = path == self.real && kind == Kind::File;
                    if is_file_wanted && found.is_dir() {
                        bail!("`{shown}` cannot be written: it is a directory");
                    }
                    if !is_file_wanted && !found.is_dir() {
                        bail!("`{shown}` cannot be written: `{}` is no directory", path.display());
                    }
                    return may_write(path).map_err(std::io::Error::from).with_context(|| {
                        format!("`{shown}` cannot be written: no access to `{}`", path.display())
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // A file among its parents; the next turn finds it.
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("`{shown}` cannot be written"));
                }
            }
        }
        Ok(())
    }

    /// Whether it is one of the container's own, of which `/dev/stdout` leads to another path in every process.
    fn is_special(&self) -> bool {
        self.path.starts_with("/dev") || self.path.starts_with("/proc")
    }

    pub(crate) fn find(path: PathBuf) -> Self {
        let real = follow(&path);
        Self { path, real }
    }

    /// Fails if the path leads somewhere else than before the first step.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.is_special() {
            return Ok(());
        }
        let now = follow(&self.path);
        if now != self.real {
            bail!(
                "`{}` leads to `{}` since a step of the build put a link there; nothing was written",
                self.path.display(),
                now.display()
            );
        }
        Ok(())
    }
}

/// The path with every link in it followed; what does not exist stays as it is spelled, but a link that leads nowhere is
/// followed, too, because writing would follow it.
#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
fn follow(path: &Path) -> PathBuf {
    // As many as the kernel follows.
    const MOST_LINKS: u32 = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path };
        let parent = follow(parent);
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => return parent.join(name),
        }
    }
    path
}

pub(crate) fn exported(path: &Path, reporter: &Reporter) {
    reporter.event(Event::Exported { path: &path.display().to_string() });
}

#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
pub(crate) fn create_parent(path: &Path) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create the directory `{}`", parent.display()))
}

/// Writes to devices and pipes (`/dev/stdout`, `/dev/termination-log`) as well as to files.
#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
fn write_file(path: &Path, content: &str, reporter: &Reporter) -> anyhow::Result<()> {
    let written = match path.to_str() {
        // Opening them would begin anew the file that they lead to, with everything that is in it.
        Some("/dev/stdout") => io::stdout().lock().write_all(content.as_bytes()),
        Some("/dev/stderr") => io::stderr().lock().write_all(content.as_bytes()),
        _ => {
            create_parent(path)?;
            std::fs::write(path, content)
        }
    };
    written.with_context(|| format!("cannot write `{}`", path.display()))?;
    exported(path, reporter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::flags::MessageFlags;

    /// Sends a text to a server that gives this answer; what it was sent, and the outcome.
    fn sent(answer: &str) -> (String, Result<(), String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a/b?signature=s3cret", listener.local_addr().unwrap());
        let request = put(url.parse().unwrap());
        let network = Transport::new(&ebiko_transport::Options::default()).unwrap();
        let quiet = MessageFlags { verbosity: Verbosity::Panic, ..MessageFlags::PLAIN };
        let reporter = Reporter::new(&quiet, &Environment::default());
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut text = String::new();
                let mut piece = [0; 4096];
                while !text.ends_with("sha256:0") {
                    let count = io::Read::read(&mut stream, &mut piece).unwrap();
                    assert_ne!(count, 0, "{text}");
                    text.push_str(str::from_utf8(&piece[..count]).unwrap());
                }
                stream.write_all(answer.as_bytes()).unwrap();
                text
            });
            let outcome = send(&request, "sha256:0", &network, &reporter);
            (server.join().unwrap(), outcome.map_err(|error| format!("{error:#}")))
        })
    }

    #[test]
    fn a_digest_is_put_to_an_address_which_is_shown_without_its_signature() {
        let (request, outcome) = sent("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(outcome, Ok(()));
        assert!(request.starts_with("PUT /a/b?signature=s3cret HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: text/plain\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nsha256:0"), "{request}");
        let (_, outcome) = sent("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        let error = outcome.unwrap_err();
        assert!(error.contains("/a/b?…`: the server answered 403"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        let target: Target = "https://h/x?signature=s3cret".parse().unwrap();
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "arranges files on the host")]
    fn a_link_that_a_step_has_put_there_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(directory.path()).unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        symlink("real", top.join("users")).unwrap();
        let places =
            ["users/digest", "open/digest", "digest"].map(|path| Place::find(top.join(path)));
        for place in &places {
            place.check().unwrap();
        }
        // A directory that is made on the way is none of the user's links, and no danger.
        std::fs::create_dir(top.join("open")).unwrap();
        places[1].check().unwrap();

        symlink("/etc/passwd", top.join("real/digest")).unwrap();
        symlink("nowhere", top.join("digest")).unwrap();
        std::fs::remove_dir(top.join("open")).unwrap();
        symlink("/etc", top.join("open")).unwrap();
        for place in &places {
            let error = place.check().unwrap_err().to_string();
            assert!(error.contains("since a step of the build put a link there"), "{error}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "arranges files on the host")]
    fn what_cannot_be_written_is_found_out_before_the_build() {
        let directory = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(directory.path()).unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        let check = |path: &str, kind: Kind| {
            let tried = Place::find(top.join(path)).try_out(kind);
            tried.map_err(|error| error.to_string().replace(&top.display().to_string(), "TOP"))
        };
        let wrong = |text: &str| Err(text.to_owned());
        assert_eq!(check("new/directory/file", Kind::File), Ok(()));
        assert_eq!(check("file", Kind::File), Ok(()));
        assert_eq!(check("", Kind::Directory), Ok(()));
        assert_eq!(check("layout", Kind::Directory), Ok(()));
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 1, "nothing was made");

        let reason = "`TOP/` cannot be written: it is a directory";
        assert_eq!(check("", Kind::File), wrong(reason));
        let reason = "`TOP/file` cannot be written: `TOP/file` is no directory";
        assert_eq!(check("file", Kind::Directory), wrong(reason));
        let reason = "`TOP/file/x` cannot be written: `TOP/file` is no directory";
        assert_eq!(check("file/x", Kind::File), wrong(reason));
    }
}
