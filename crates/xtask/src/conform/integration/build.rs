//! Runs the program for a case, in a pod or on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::Value;
use testkit::{Executor, Output, Registry, RegistryBuilder, executor_binary};

use super::case::{Case, Substitutions};
use super::layout::Image;
use super::{fixtures, tree};

/// A build that takes longer has failed.
const LIMIT: Duration = Duration::from_mins(1);

/// Where the directories of a case are in a pod: below what the program keeps for itself, so that no path that a Dockerfile
/// is likely to name is a mount point.
const POD_DIR: &str = "/kaniko/conform";

/// Where a build takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the root of an ordinary pod.
    Pod,
    /// In a private root on this machine.
    Private,
}

impl Built {
    /// Why a case that did not go well cannot go well in the place where it was built, if that is so.
    ///
    /// Only for cases about what surrounds a RUN, and only where the program itself says which right is missing, in an
    /// error or in a warning: a wrong result without a word is never excused. The size of a tmpfs counts among them.
    pub(super) fn lacks_a_right(&self, case: &Case) -> Option<String> {
        const WORDS: [&str; 5] = [
            "CAP_",
            "Operation not permitted",
            "privilege",
            "not supported here",
            "not possible here",
        ];
        const SIZE: &str = "is not enforced";
        if !case.expects_success() {
            return None;
        }
        let is_about_rights = matches!(case.group(), "network" | "security" | "resources");
        let refusal = self.image.is_none().then_some(&self.error);
        let said = self.notes.iter().chain(refusal);
        let mut naming = said.filter(|text| WORDS.iter().any(|word| text.contains(word)));
        naming
            .find(|text| is_about_rights || (case.group() == "mount" && text.contains(SIZE)))
            .map(|text| text.lines().collect::<Vec<_>>().join(" "))
    }
}

/// What all cases share: the program, a registry with base images, an executor image.
#[derive(Debug)]
pub(super) struct Workshop {
    place: Place,
    binary: PathBuf,
    /// The program's flags, as its help has them.
    help: String,
    executor: Executor,
    registry: Registry,
}

/// What a build left.
#[derive(Clone, Debug, Default)]
pub(super) struct Built {
    /// `None` if the build failed.
    pub(super) image: Option<Image>,
    /// Why it failed: all messages of the program at the level of errors.
    pub(super) error: String,
    /// The lines of the Dockerfile at which it failed, where the program says so.
    pub(super) error_lines: Option<Vec<u64>>,
    /// The texts of the steps, without `[…]` in front.
    pub(super) steps: Vec<String>,
    /// What the program and its RUNs printed.
    pub(super) log: String,
    /// As BuildKit prints them: `RULE: MESSAGE (line N)`.
    pub(super) warnings: Vec<String>,
    /// Other warnings.
    pub(super) notes: Vec<String>,
    /// Why an image that must exist before could not be built.
    pub(super) prelude: Option<String>,
}

/// Which directories a build has, on this machine and as it sees them.
struct Site<'a> {
    host: &'a Path,
    seen: &'a Path,
    /// Distinguishes the images of one case.
    tag: String,
}

impl Site<'_> {
    /// A directory on this machine, and how the build names it.
    fn dir(&self, name: &str) -> (PathBuf, String) {
        let name = format!("{name}{}", self.tag);
        (self.host.join(&name), self.seen.join(&name).display().to_string())
    }
}

impl Workshop {
    pub(super) fn new(place: Place) -> anyhow::Result<Self> {
        ensure!(testkit::is_root(), "integration cases need root: they need owners, and pods");
        let binary = match executor_binary() {
            Ok(binary) if std::env::var_os("EBIKO_EXECUTOR").is_some() => binary,
            _ => crate::binary::build()?,
        };
        let help = testkit::command::capture_text(Command::new(&binary).arg("--help"))?;
        let images = testkit::base::stand_ins()?;
        let registry =
            images.into_iter().fold(Registry::builder(), RegistryBuilder::image).start()?;
        Ok(Self { place, executor: Executor::with_binary(&binary)?, binary, help, registry })
    }

    /// Builds a case and the images that it needs.
    pub(super) fn build(&self, case: &Case) -> anyhow::Result<(Substitutions, Built)> {
        let scratch = testkit::scratch_dir("conform-")?;
        let dir = scratch.path();
        let mut substitutions = Substitutions::default();
        // Every case has a namespace of its own in the registry, because two may push under the same name at once.
        let namespace = case.id().replace('/', "-").to_lowercase();
        substitutions.insert("REG", self.registry.reference(&namespace));
        let _servers = fixtures::start(case, dir, &mut substitutions)?;
        for (number, (image, name)) in case.prelude().into_iter().enumerate() {
            let flag = format!(
                "--destination={}",
                self.registry.reference(&format!("{namespace}/{name}"))
            );
            let tag = format!("-{number}");
            let built = self.build_one(&image, &substitutions, dir, &tag, vec![flag])?;
            if built.image.is_none() {
                let prelude = Some(format!("{}: {}", name, built.error));
                return Ok((substitutions, Built { prelude, ..built }));
            }
        }
        let built = self.build_one(case, &substitutions, dir, "", vec!["--no-push".to_owned()])?;
        Ok((substitutions, built))
    }

    fn build_one(
        &self,
        case: &Case,
        substitutions: &Substitutions,
        dir: &Path,
        tag: &str,
        mut flags: Vec<String>,
    ) -> anyhow::Result<Built> {
        let seen = match self.place {
            Place::Pod => Path::new(POD_DIR),
            Place::Private => dir,
        };
        let site = Site { host: dir, seen, tag: tag.to_owned() };
        let (out, seen_out) = site.dir("out");
        std::fs::create_dir_all(&out)?;
        let registry = self.registry.host();
        flags.extend([
            "--log-format=json".to_owned(),
            format!("--registry-mirror={registry}"),
            format!("--insecure-registry={registry}"),
            format!("--oci-layout-path={seen_out}/layout"),
        ]);
        // In a pod the default is the container's own file system, where a cache can stand in its place itself; the
        // directory of the case is a mount.
        if self.place == Place::Private && self.knows("--cache-run-dir") {
            flags.push(format!("--cache-run-dir={seen_out}/caches"));
        }
        flags.extend(context_flags(case, substitutions, &site)?);
        flags.extend(option_flags(case, substitutions, &site)?);
        let output = self.execute(dir, &flags)?;
        let mut built = read_log(&output);
        if output.code == 0 {
            let base_history = case.field("base_history").as_u64();
            built.image = Some(Image::read(&out.join("layout"), base_history)?);
        } else if built.error.is_empty() {
            built.error =
                format!("the program ended with {}: {}", output.code, output.stderr.trim());
        }
        built.log = format!("{}\n{}{}", flags.join(" "), output.stdout, output.stderr);
        Ok(built)
    }

    fn knows(&self, flag: &str) -> bool {
        self.help.contains(&format!("{flag} "))
    }

    fn execute(&self, dir: &Path, flags: &[String]) -> anyhow::Result<Output> {
        match self.place {
            Place::Pod => {
                let command =
                    std::iter::once("/kaniko/executor").chain(flags.iter().map(String::as_str));
                let pod = self.executor.pod().bind(dir, POD_DIR).work_dir("/").timeout(LIMIT);
                let output = pod.memory(500 << 20).run(command)?;
                Ok(Output { code: output.code, stdout: output.stdout, stderr: output.stderr })
            }
            Place::Private => {
                let home = dir.join("home");
                let work = dir.join("work");
                for dir in [&home, &work] {
                    std::fs::create_dir_all(dir)?;
                }
                let mut command = Command::new(&self.binary);
                command.args(flags).current_dir(&work).env_clear();
                command.env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
                command.env("HOME", &home).env("TMPDIR", &work);
                testkit::command::run_for(&mut command, LIMIT)
            }
        }
    }
}

/// Lays out the context and the Dockerfile, and names them.
fn context_flags(
    case: &Case,
    substitutions: &Substitutions,
    site: &Site<'_>,
) -> anyhow::Result<Vec<String>> {
    let mut flags = Vec::new();
    let name = case.dockerfile_name();
    let dockerfile = case
        .field("dockerfile")
        .as_str()
        .map(|text| serde_json::json!({ "path": name, "content": text, "mode": "0600" }));
    let is_inside = case.field("dockerfile_in_context") != false;
    let mut entries = case.list("context").to_vec();
    if let Some(dockerfile) = dockerfile.clone().filter(|_| is_inside) {
        entries.insert(0, dockerfile);
    }
    let entries = substitutions.replace(Value::Array(entries));
    let (context, seen_context) = site.dir("context");
    tree::write(&context, entries.as_array().map_or(&[], Vec::as_slice))?;
    if case.option("attrs")["context"].is_null() {
        flags.push(format!("--context={seen_context}"));
    }
    let default_name = name == "Dockerfile" || case.option("no_filename_attr") == true;
    if let Some(dockerfile) = dockerfile.filter(|_| !is_inside) {
        let (outside, seen_outside) = site.dir("dockerfile");
        tree::write(&outside, &[substitutions.replace(dockerfile)])?;
        let name = if default_name { "Dockerfile" } else { name };
        flags.push(format!("--dockerfile={seen_outside}/{name}"));
    } else if !default_name {
        flags.push(format!("--dockerfile={name}"));
    }
    for (name, entries) in pairs(case.field("locals")) {
        let (dir, _) = site.dir(&format!("local-{name}"));
        let entries = substitutions.replace(entries.clone());
        tree::write(&dir, entries.as_array().map_or(&[], Vec::as_slice))?;
    }
    Ok(flags)
}

/// The flags that say what `opts` says.
fn option_flags(
    case: &Case,
    substitutions: &Substitutions,
    site: &Site<'_>,
) -> anyhow::Result<Vec<String>> {
    let mut flags = Vec::new();
    let option = |name: &str| substitutions.replace(case.option(name).clone());
    for (name, value) in pairs(&option("build_args")) {
        flags.push(format!("--build-arg={name}={}", plain(value)));
    }
    for (name, value) in pairs(&option("labels")) {
        flags.push(format!("--label={name}={}", plain(value)));
    }
    if let Some(target) = option("target").as_str().filter(|target| !target.is_empty()) {
        flags.push(format!("--target={target}"));
    }
    if let Some(platform) = option("platform").as_str().filter(|platform| !platform.is_empty()) {
        let wanted = case.field("result_platform").as_str();
        let first = platform.split(',').next().unwrap_or_default();
        flags.push(format!("--custom-platform={}", wanted.unwrap_or(first)));
    }
    for (name, value) in pairs(&option("named_contexts")) {
        let value = plain(value);
        let value = match value.strip_prefix("local:") {
            Some(local) => site.dir(&format!("local-{local}")).1,
            None => value,
        };
        flags.push(format!("--build-context={name}={value}"));
    }
    for (name, value) in pairs(&option("secrets")) {
        let (file, seen) = site.dir(&format!("secret-{name}"));
        tree::write_text(&file, &plain(value))?;
        flags.push(format!("--secret=id={name},src={seen}"));
    }
    if option("ssh") == true {
        let (key, seen) = site.dir("key");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f"]).arg(&key);
        testkit::command::capture(&mut command)?;
        flags.push(format!("--ssh=default={seen}"));
    }
    for right in option("allow").as_array().into_iter().flatten() {
        flags.push(format!("--allow={}", plain(right)));
    }
    for (name, value) in pairs(&option("attrs")) {
        flags.extend(attribute_flags(name, &plain(value), case)?);
    }
    if let Some(attributes) = option("oci_attrs").as_str() {
        for attribute in attributes.split(',') {
            match attribute {
                "rewrite-timestamp=true" => flags.push("--rewrite-timestamp".to_owned()),
                "rewrite-timestamp=false" => {}
                other => bail!("no flag is known for the exporter's attribute `{other}`"),
            }
        }
    }
    Ok(flags)
}

/// The flags for a raw attribute of BuildKit's frontend.
fn attribute_flags(name: &str, value: &str, case: &Case) -> anyhow::Result<Vec<String>> {
    let one = |flag: &str| vec![format!("{flag}={value}")];
    let prefixed = |flag: &str, rest: &str| vec![format!("{flag}={rest}={value}")];
    if let Some(rest) = name.strip_prefix("build-arg:") {
        return Ok(prefixed("--build-arg", rest));
    }
    if let Some(rest) = name.strip_prefix("label:") {
        return Ok(prefixed("--label", rest));
    }
    if let Some(rest) = name.strip_prefix("context:") {
        return Ok(prefixed("--build-context", rest));
    }
    Ok(match name {
        "context" => one("--context"),
        "contextsubdir" => one("--context-sub-path"),
        "filename" => one("--dockerfile"),
        "target" => one("--target"),
        "platform" => one("--custom-platform"),
        "shm-size" => one("--shm-size"),
        "hostname" => {
            let given = &case.option("build_args")["BUILDKIT_SANDBOX_HOSTNAME"];
            let flag = format!("--build-arg=BUILDKIT_SANDBOX_HOSTNAME={value}");
            if given.is_null() { vec![flag] } else { Vec::new() }
        }
        "ulimit" => value.split(',').map(|limit| format!("--ulimit={limit}")).collect(),
        "add-hosts" => value.split(',').map(|host| format!("--add-host={host}")).collect(),
        // Nothing is cached between the builds of two cases.
        "no-cache" | "image-resolve-mode" | "multi-platform" => Vec::new(),
        other => bail!("no flag is known for the frontend's attribute `{other}`"),
    })
}

fn pairs(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// A value as text: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Takes the program's messages apart: one JSON object on each line of standard error.
fn read_log(output: &Output) -> Built {
    let mut built = Built::default();
    let mut errors: Vec<String> = Vec::new();
    for line in output.stderr.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            errors.push(line.to_owned());
            continue;
        };
        let text = message["msg"].as_str().unwrap_or_default();
        match message["level"].as_str().unwrap_or_default() {
            "warning" => match warning(&message, text) {
                Some(warning) => built.warnings.push(warning),
                None => built.notes.push(text.to_owned()),
            },
            "error" | "fatal" | "panic" => {
                errors.push(text.to_owned());
                if built.error_lines.is_none() {
                    let lines = message["lines"].as_array();
                    built.error_lines =
                        lines.map(|lines| lines.iter().filter_map(Value::as_u64).collect());
                }
            }
            _ if message["step"].is_string() => built.steps.push(without_label(text).to_owned()),
            _ => {}
        }
    }
    built.error = errors.join("\n");
    built
}

/// What the linter says has the name of its rule; other warnings are not BuildKit's.
fn warning(message: &Value, text: &str) -> Option<String> {
    let rule = message["rule"].as_str()?;
    Some(match message["line"].as_u64() {
        Some(line) => format!("{rule}: {text} (line {line})"),
        None => format!("{rule}: {text}"),
    })
}

/// `[base 2/3] RUN x` → `RUN x`: the label has another form in each program, the text behind it is the same.
pub(super) fn without_label(text: &str) -> &str {
    match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, rest)) => rest,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case(value: &Value) -> Case {
        let mut value = value.clone();
        value["id"] = "network/x".into();
        Case::read(value).unwrap()
    }

    #[test]
    fn options_become_flags() {
        let case = case(&json!({
            "result_platform": "linux/amd64",
            "opts": {
                "build_args": {"A": "{{HTTP}}/x"}, "labels": {"l": ""}, "target": "t",
                "platform": "windows/amd64,linux/amd64",
                "named_contexts": {"b": "docker-image://alpine", "c": "local:d"},
                "attrs": {"hostname": "h", "ulimit": "nofile=1:2,core=0", "no-cache": ""},
                "oci_attrs": "rewrite-timestamp=true",
            },
        }));
        let mut substitutions = Substitutions::default();
        substitutions.insert("HTTP", "http://h");
        let site = Site { host: Path::new("/h"), seen: Path::new("/s"), tag: "-0".into() };
        assert_eq!(
            option_flags(&case, &substitutions, &site).unwrap(),
            [
                "--build-arg=A=http://h/x",
                "--label=l=",
                "--target=t",
                "--custom-platform=linux/amd64",
                "--build-context=b=docker-image://alpine",
                "--build-context=c=/s/local-d-0",
                "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=h",
                "--ulimit=nofile=1:2",
                "--ulimit=core=0",
                "--rewrite-timestamp",
            ]
        );
    }

    #[test]
    fn an_attribute_without_a_flag_is_an_error_and_not_ignored() {
        let case = case(&json!({"opts": {"attrs": {"cgroup-parent": "x"}}}));
        let site = Site { host: Path::new("/h"), seen: Path::new("/s"), tag: String::new() };
        let error = option_flags(&case, &Substitutions::default(), &site).unwrap_err();
        assert!(error.to_string().contains("cgroup-parent"), "{error}");
    }

    #[test]
    fn the_log_is_taken_apart() {
        let stderr = r#"{"level":"info","msg":"[stage 1/1] FROM scratch","stage":"1/1"}
{"level":"info","line":2,"msg":"[stage 1/1 step 1/1] RUN [ 1 ] x","stage":"1/1","step":"1/1"}
{"level":"warning","msg":"not BuildKit's"}
{"level":"warning","msg":"too old","rule":"Old","line":3}
{"level":"fatal","msg":"error: no\n  caused by: this","lines":[2,3]}
stray
"#;
        let built = read_log(&Output { code: 1, stdout: String::new(), stderr: stderr.to_owned() });
        assert_eq!(built.steps, ["RUN [ 1 ] x"]);
        assert_eq!(built.warnings, ["Old: too old (line 3)"]);
        assert_eq!(built.error, "error: no\n  caused by: this\nstray");
        assert_eq!(built.error_lines, Some(vec![2, 3]));
    }

    #[test]
    fn only_a_refusal_that_names_a_right_is_excused() {
        let refused = case(&json!({"expect": "ok"}));
        let built = |error: &str| Built { error: error.into(), ..Built::default() };
        let lacks = |case: &Case, built: &Built| built.lacks_a_right(case).is_some();
        assert!(lacks(&refused, &built("error: --network=none needs CAP_SYS_ADMIN")));
        assert!(!lacks(&refused, &built("error: no such flag")));
        let wrong = Built { image: Some(Image::default()), ..built("CAP_") };
        assert!(!lacks(&refused, &wrong), "a wrong result is a failure");
        let said = Built { notes: vec!["no CAP_X: the size is not enforced".into()], ..wrong };
        assert!(lacks(&refused, &said), "unless the program says so");
        let mount = Case::read(json!({"id": "mount/x", "expect": "ok"})).unwrap();
        assert!(lacks(&mount, &said));
        let said = Built { notes: vec!["no CAP_X".into()], ..said };
        assert!(!lacks(&mount, &said), "of mounts only the size of a tmpfs");
        let other = Case::read(json!({"id": "copy/x", "expect": "ok"})).unwrap();
        assert!(!lacks(&other, &built("CAP_SYS_ADMIN")), "only three groups may be excused");
    }
}
