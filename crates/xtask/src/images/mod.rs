//! ebiko's own images: built by ebiko, with what is in them and where it comes from.

mod architecture;
mod attach;
mod join;
mod machine;
mod provenance;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use testkit::{OWN_IMAGES, own_image_context};

pub(crate) use self::architecture::Architecture;
use self::machine::Machine;
use crate::binary::{relative, size};
use crate::progress::{self, Progress};

/// Where distributions keep the bundle of certificate authorities.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What goes into the images, and what they are to say about themselves.
struct Material {
    architecture: Architecture,
    /// The program that builds, which runs on this machine.
    builder: PathBuf,
    /// The context of `bin/ebiko/Dockerfile`.
    context: PathBuf,
    machine: Machine,
}

/// One image as it came out.
struct Built {
    target: &'static str,
    digest: String,
    /// The sum of its layers as a registry stores them.
    layers: u64,
}

/// `cargo xtask images [--arch amd64|arm64]… [--busybox PATH]… [TARGET…]`.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let Request { architectures, busyboxes, targets } = Request::read(args)?;
    // Whatever is missing is said before anything is compiled.
    architectures.iter().try_for_each(|architecture| architecture.check_tools())?;
    let mut progress =
        Progress::new(3 * architectures.len() + usize::from(architectures.len() > 1));
    let mut lines = Vec::new();
    let mut layouts = Vec::new();
    for architecture in &architectures {
        let architecture = *architecture;
        let material = progress.step("build the static binary", || {
            let binary = crate::binary::build_for(architecture)?;
            let is_native = architecture == Architecture::native()?;
            let builder = if is_native { binary.clone() } else { crate::binary::build()? };
            Material::prepare(architecture, &binary, builder, &busyboxes, &targets)
        })?;
        let built = progress.step("build the images with it", || {
            targets.iter().map(|target| material.build(target)).collect::<anyhow::Result<Vec<_>>>()
        })?;
        progress.step("write down what is in them and where it comes from", || {
            built.iter().try_for_each(|image| material.describe(image))
        })?;
        for Built { target, digest, layers } in &built {
            lines.push(format!("{target:<14} {:<6} {layers:>12}  {digest}", architecture.name()));
        }
        layouts.push(targets.iter().map(|target| material.path(target)).collect::<Vec<_>>());
    }
    if architectures.len() > 1 {
        progress.step("join the images for all processors", || {
            for (number, target) in targets.iter().enumerate() {
                let parts: Vec<&Path> = layouts.iter().map(|layouts| &*layouts[number]).collect();
                let joined = images_dir()?.join("all").join(target);
                let digest = join::join(&parts, &joined)?;
                lines.push(format!("{target:<14} {:<6} {:>12}  {digest}", "all", ""));
            }
            Ok(())
        })?;
    }
    println!("      {:<14} {:<6} {:>12}  digest", "image", "for", "compressed");
    for line in lines {
        println!("      {line}");
    }
    progress.finish("the images are in target/images,");
    Ok(())
}

/// The executor image alone, without anything beside it; what `cargo xtask image` and the demo want.
pub(crate) fn executor(binary: &Path) -> anyhow::Result<()> {
    let targets = ["executor"];
    let architecture = Architecture::native()?;
    let material = Material::prepare(architecture, binary, binary.to_owned(), &[], &targets)?;
    let built = material.build(targets[0])?;
    let archive = material.path("executor.tar");
    println!("      {}: {}, {}", relative(&archive), size(&archive)?, built.digest);
    Ok(())
}

/// What the person asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    architectures: Vec<Architecture>,
    busyboxes: Vec<PathBuf>,
    targets: Vec<&'static str>,
}

impl Request {
    fn read(args: &[String]) -> anyhow::Result<Self> {
        let mut request =
            Self { architectures: Vec::new(), busyboxes: Vec::new(), targets: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "--arch" => {
                    let architecture = Architecture::parse(value()?)?;
                    ensure!(
                        !request.architectures.contains(&architecture),
                        "`--arch {}` is there twice",
                        architecture.name()
                    );
                    request.architectures.push(architecture);
                }
                "--busybox" => request.busyboxes.push(value()?.into()),
                name => match OWN_IMAGES.iter().find(|image| **image == name) {
                    Some(image) => request.targets.push(image),
                    None => bail!(
                        "`{name}` is none of `--arch`, `--busybox` and the images {}",
                        OWN_IMAGES.join(", ")
                    ),
                },
            }
        }
        if request.architectures.is_empty() {
            request.architectures.push(Architecture::native()?);
        }
        if request.targets.is_empty() {
            request.targets = OWN_IMAGES.to_vec();
        }
        Ok(request)
    }
}

impl Material {
    /// Lays out the context, with a busybox if an image with a shell is wanted: the first one for the processor, of those
    /// that were named and the machine's own.
    fn prepare(
        architecture: Architecture,
        binary: &Path,
        builder: PathBuf,
        busyboxes: &[PathBuf],
        targets: &[&str],
    ) -> anyhow::Result<Self> {
        let wants_shell = targets.contains(&"debug");
        let own = Path::new("/bin/busybox");
        let named = busyboxes.iter().map(|path| &**path);
        let fits = |path: &&Path| architecture.check(path).is_ok();
        let first = || busyboxes.first().map_or(own, |path| &**path);
        let busybox = wants_shell.then(|| named.chain([own]).find(fits).unwrap_or_else(first));
        for file in std::iter::once(binary).chain(busybox) {
            crate::binary::check_static(file)?;
            architecture.check(file)?;
        }
        let authorities = if let Some(bundle) =
            AUTHORITIES.iter().find(|path| Path::new(path).is_file())
        {
            println!("      certificate authorities from {bundle}");
            std::fs::read(bundle).with_context(|| format!("cannot read `{bundle}`"))?
        } else {
            println!(
                "      no bundle of certificate authorities here: the images trust those in the binary"
            );
            Vec::new()
        };
        let context = images_dir()?.join("context");
        if context.exists() {
            std::fs::remove_dir_all(&context)
                .with_context(|| format!("cannot remove `{}`", context.display()))?;
        }
        std::fs::create_dir(&context)
            .with_context(|| format!("cannot create `{}`", context.display()))?;
        own_image_context(binary, &authorities, busybox)?.write_to(&context)?;
        Ok(Self { architecture, builder, context, machine: Machine::ask(architecture)? })
    }

    /// A file of these images.
    fn path(&self, name: &str) -> PathBuf {
        let dir = testkit::workspace_dir().join("target/images");
        // The machine's own are what somebody looks for who knows of no others.
        match Architecture::native() {
            Ok(native) if native == self.architecture => dir.join(name),
            _ => dir.join(self.architecture.name()).join(name),
        }
    }

    /// Builds a target into an OCI layout and a tar.
    fn build(&self, target: &'static str) -> anyhow::Result<Built> {
        let (layout, archive) = (self.path(target), self.path(&format!("{target}.tar")));
        std::fs::create_dir_all(layout.parent().unwrap_or(Path::new("/")))?;
        let version = &self.machine.version;
        let mut command = Command::new(&self.builder);
        command
            .arg(format!("--context=dir://{}", self.context.display()))
            .arg(format!("--dockerfile={}", dockerfile().display()))
            .arg(format!("--target={target}"))
            .arg(format!("--custom-platform=linux/{}", self.architecture.name()))
            .arg(format!("--destination=ebiko/{target}:{version}"))
            .arg(format!("--oci-layout-path={}", layout.display()))
            .arg(format!("--tar-path={}", archive.display()));
        for (name, value) in self.machine.labels() {
            command.arg(format!("--label=org.opencontainers.image.{name}={value}"));
        }
        // Everything is as old as the source, so that the same source gives the same image.
        command
            .args(["--reproducible", "--compression-level=12", "--no-push"])
            .env("SOURCE_DATE_EPOCH", self.machine.source_time.to_string());
        progress::run(&mut command)?;
        let (digest, manifest) = attach::only_manifest(&layout)?;
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let layers = layers.filter_map(|layer| layer["size"].as_u64()).sum();
        Ok(Built { target, digest, layers })
    }

    /// Writes the list of what is in an image and the statement how it was built beside its layout, and into it.
    fn describe(&self, image: &Built) -> anyhow::Result<()> {
        let parts = sbom::Parts::find(self, image.target)?;
        let documents: [(&str, &str, Value); 2] = [
            ("spdx.json", "application/spdx+json", sbom::document(self, image, &parts)),
            (
                "provenance.json",
                "application/vnd.in-toto+json",
                provenance::statement(self, image)?,
            ),
        ];
        let layout = self.path(image.target);
        for (extension, media_type, document) in documents {
            let bytes = serde_json::to_vec_pretty(&document)?;
            let name = format!("{}.{extension}", image.target);
            let path = self.path(&name);
            std::fs::write(&path, &bytes)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            let created = &self.machine.created;
            let annotations = json!({"org.opencontainers.image.created": created});
            attach::attach(&layout, &image.digest, &name, media_type, &bytes, &annotations)?;
        }
        Ok(())
    }
}

fn dockerfile() -> PathBuf {
    testkit::workspace_dir().join("bin/ebiko/Dockerfile")
}

fn images_dir() -> anyhow::Result<PathBuf> {
    let dir = testkit::workspace_dir().join("target/images");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    Ok(dir)
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256_of(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let digest = attach::digest(&bytes);
    let hex = digest.strip_prefix("sha256:").map(str::to_owned);
    ensure!(hex.is_some(), "a digest has another form");
    Ok(hex.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Request, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Request::read(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn all_images_are_built_unless_some_are_named() {
        assert_eq!(read(&[]).unwrap().targets, OWN_IMAGES);
        let request = read(&["--arch", "arm64", "slim", "debug"]).unwrap();
        assert_eq!(request.targets, ["slim", "debug"]);
        assert_eq!(request.architectures, [Architecture::Arm64]);
        let both = read(&["--arch", "arm64", "--arch", "amd64"]).unwrap();
        assert_eq!(both.architectures, [Architecture::Arm64, Architecture::Amd64]);
        assert_eq!(
            read(&["--arch", "arm64", "--arch", "arm64"]).unwrap_err(),
            "`--arch arm64` is there twice"
        );
        assert_eq!(read(&[]).unwrap().architectures, [Architecture::native().unwrap()]);
        assert_eq!(read(&["--arch"]).unwrap_err(), "`--arch` needs a value");
        assert!(read(&["--arch", "vax"]).unwrap_err().contains("amd64 and arm64"));
        assert!(read(&["slimm"]).unwrap_err().contains("slim, debug"));
    }

    #[test]
    fn every_image_is_a_stage_of_the_dockerfile() {
        let text = std::fs::read_to_string(dockerfile()).unwrap();
        for image in OWN_IMAGES {
            assert!(text.contains(&format!(" AS {image}\n")), "there is no stage `{image}`");
        }
        assert!(text.trim_end().ends_with(" AS executor"), "the default is the executor");
    }
}
