//! Base images that are kept on disk: what the warmer leaves, and what a build finds there.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at files and damage them"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebiko_layout::{Freshness, Refresh, WarmDirectory, WarmSource, Warmed, write_layout};
use ebiko_oci::{
    BlobOrigin, BlobSource, Descriptor, Digest, Image, ImageSource, LookUpError, Manifest,
    ManifestBytes, NameSource, Platform, PortError, Reference, ResolvedImage,
};
use support::{Warnings, at, chain, contents, image, index, platform, reference};

/// When everything here is warmed: 2020-09-13.
const WARMED: i64 = 1_600_000_000;
const TTL: Duration = Duration::from_hours(1);

/// A registry that counts what it is asked for.
#[derive(Default)]
struct Fake {
    names: BTreeMap<String, ManifestBytes>,
    images: BTreeMap<Digest, Image>,
    is_unreachable: bool,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn add(&mut self, name: &str, index: &ManifestBytes, images: &[&Image]) {
        self.names.insert(reference(name).to_string(), index.clone());
        self.images.extend(images.iter().map(|image| (image.digest(), (*image).clone())));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn ask(&self, what: &str, reference: &Reference) -> Result<(), PortError> {
        self.asked.lock().unwrap().push(format!("{what} {}", reference.familiar()));
        if self.is_unreachable { Err("the wire is cut".into()) } else { Ok(()) }
    }
}

impl NameSource for Fake {
    fn look_up(&self, reference: &Reference) -> Result<ManifestBytes, LookUpError> {
        let is_unreachable = self.is_unreachable;
        let fail = |source| LookUpError { is_unreachable, source };
        self.ask("name", reference).map_err(fail)?;
        let found = self.names.get(&reference.to_string()).cloned();
        found.ok_or_else(|| fail("there is no such image".into()))
    }

    fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        let blobs = self.images.values().flat_map(Image::layers);
        let mut blobs = blobs.filter(|layer| layer.descriptor.digest == descriptor.digest);
        Arc::new(FakeBlob {
            origin: BlobOrigin {
                registry: reference.registry().to_owned(),
                repository: reference.repository().to_owned(),
            },
            blob: blobs.next().map(|layer| Arc::clone(&layer.blob)),
        })
    }
}

struct FakeBlob {
    origin: BlobOrigin,
    blob: Option<Arc<dyn BlobSource>>,
}

impl BlobSource for FakeBlob {
    fn open(&self) -> Result<Box<dyn std::io::Read + Send>, PortError> {
        self.blob.as_ref().ok_or("the registry has no such blob")?.open()
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        vec![self.origin.clone()]
    }
}

impl ImageSource for Fake {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        self.ask("image", reference)?;
        let by_digest = reference.digest().and_then(|digest| self.images.get(&digest));
        if let Some(image) = by_digest {
            return Ok(ResolvedImage { image: image.clone(), digest: image.digest() });
        }
        let named = self.names.get(&reference.to_string()).ok_or("there is no such image")?;
        let digest = match Manifest::parse(&named.bytes, None)? {
            Manifest::Image(_) => named.digest,
            Manifest::Index(index) => index.select(platform)?.digest,
        };
        let image = self.images.get(&digest).ok_or("there is no such image")?.clone();
        Ok(ResolvedImage { image, digest: named.digest })
    }
}

/// A directory that has been warmed with `app:1`, an index of two images, for amd64.
struct Bench {
    directory: tempfile::TempDir,
    fake: Fake,
    warnings: Warnings,
    amd: Image,
    arm: Image,
    index: ManifestBytes,
}

const NAME: &str = "r.example/app:1";

impl Bench {
    fn new() -> Self {
        let (amd, arm) = (image("linux/amd64"), image("linux/arm64"));
        let index = index(&[&arm, &amd]);
        let mut fake = Fake::default();
        fake.add(NAME, &index, &[&amd, &arm]);
        let directory = tempfile::tempdir().unwrap();
        Self { directory, fake, warnings: Warnings::default(), amd, arm, index }
    }

    fn warmed() -> Self {
        let bench = Self::new();
        assert_eq!(bench.warm(WARMED, Refresh::Needed), Warmed::Stored);
        bench
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn entry(&self) -> PathBuf {
        self.path().join(self.amd.digest().to_string())
    }

    fn layer(&self) -> PathBuf {
        let digest = self.amd.layers()[0].descriptor.digest;
        self.entry().join("blobs/sha256").join(digest.hex())
    }

    fn warm_directory(&self, now: i64) -> WarmDirectory {
        WarmDirectory::new(self.path(), Freshness { ttl: TTL, now: at(now) })
    }

    /// What the warmer does.
    fn warm(&self, now: i64, refresh: Refresh) -> Warmed {
        let directory = self.warm_directory(now);
        let name = reference(NAME);
        let resolved = ResolvedImage { image: self.amd.clone(), digest: self.index.digest };
        let warmed = directory.warm(&resolved.image, refresh).unwrap();
        directory.keep_index(&self.index).unwrap();
        directory.note(&name, &platform("linux/amd64"), &resolved).unwrap();
        warmed
    }

    fn resolve_at(&self, now: i64, name: &str, on: &str) -> Result<ResolvedImage, String> {
        let directory = self.warm_directory(now);
        let source = WarmSource::new(&directory, &self.fake, &self.warnings);
        source.resolve(&reference(name), &platform(on)).map_err(|error| chain(&*error))
    }

    fn resolve(&self, name: &str, on: &str) -> Result<ResolvedImage, String> {
        self.resolve_at(WARMED + 1, name, on)
    }
}

#[test]
fn a_tag_costs_one_question_and_its_layers_none() {
    let bench = Bench::warmed();
    let found = bench.resolve(NAME, "linux/amd64").unwrap();
    assert_eq!(bench.fake.asked(), ["name r.example/app:1"]);
    assert_eq!(found.image.manifest(), bench.amd.manifest());
    assert_eq!((found.digest, contents(&found.image)), (bench.index.digest, contents(&bench.amd)));
    assert_eq!(bench.warnings.take(), [""; 0]);

    let other = bench.resolve(NAME, "linux/arm64").unwrap();
    assert_eq!(other.image.digest(), bench.arm.digest(), "what is not there is fetched");
    assert_eq!(bench.fake.asked(), ["name r.example/app:1", "image r.example/app:1"]);
}

#[test]
fn a_digest_of_an_image_or_of_its_index_costs_nothing() {
    let mut bench = Bench::warmed();
    bench.fake.is_unreachable = true;
    for digest in [bench.amd.digest(), bench.index.digest] {
        let found = bench.resolve(&format!("r.example/app@{digest}"), "linux/amd64").unwrap();
        assert_eq!((found.image.digest(), found.digest), (bench.amd.digest(), digest));
        assert_eq!(bench.fake.asked(), [""; 0]);
    }
    let missing = format!("r.example/app@{}", bench.index.digest);
    let error = bench.resolve(&missing, "linux/arm64").unwrap_err();
    assert_eq!(error, "the wire is cut");
}

#[test]
fn a_tag_means_what_it_meant_while_the_registry_is_out_of_reach() {
    let mut bench = Bench::warmed();
    bench.fake.is_unreachable = true;
    let found = bench.resolve(NAME, "linux/amd64").unwrap();
    assert_eq!((found.image.digest(), found.digest), (bench.amd.digest(), bench.index.digest));
    let expected = format!(
        "the wire is cut; r.example/app:1 is taken for {}, which it was at 2020-09-13T12:26:40Z",
        bench.index.digest
    );
    assert_eq!(bench.warnings.take(), [expected]);

    for (name, on) in [(NAME, "linux/arm64"), ("r.example/app:2", "linux/amd64")] {
        assert_eq!(bench.resolve(name, on).unwrap_err(), "the wire is cut", "{name} {on}");
    }
    let late = bench.resolve_at(WARMED + 3601, NAME, "linux/amd64");
    assert_eq!(late.unwrap_err(), "the wire is cut", "the record is too old");
}

#[test]
fn an_answer_that_there_is_no_such_image_counts() {
    let mut bench = Bench::warmed();
    bench.fake.names.clear();
    let error = bench.resolve(NAME, "linux/amd64").unwrap_err();
    assert_eq!((error.as_str(), bench.warnings.take().len()), ("there is no such image", 0));
}

#[test]
fn an_entry_that_is_too_old_is_not_used_and_the_warmer_renews_it() {
    let bench = Bench::warmed();
    let digest = format!("r.example/app@{}", bench.amd.digest());
    let late = WARMED + 3601;
    bench.resolve_at(WARMED + 3600, &digest, "linux/amd64").unwrap();
    assert_eq!(bench.fake.asked(), [""; 0]);
    bench.resolve_at(late, &digest, "linux/amd64").unwrap();
    assert_eq!(bench.fake.asked(), [format!("image {digest}")]);
    let warning = bench.warnings.take().remove(0);
    assert!(warning.ends_with("is older than --cache-ttl and is not used"), "{warning}");

    assert_eq!(bench.warm(late, Refresh::Needed), Warmed::Renewed);
    assert_eq!(bench.warm(late, Refresh::Needed), Warmed::Present);
    bench.resolve_at(late, &digest, "linux/amd64").unwrap();
    assert_eq!(bench.fake.asked(), [""; 0]);
    assert_eq!(bench.warm(late, Refresh::Always), Warmed::Stored);
}

/// Writes other content of the same length.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_manifest_or_config_or_a_layer_that_is_not_there_makes_the_entry_useless() {
    type Harm = fn(&Bench) -> PathBuf;
    let harms: [(Harm, &str); 4] = [
        (
            |bench| bench.entry().join("blobs/sha256").join(bench.amd.digest().hex()),
            "has other content",
        ),
        (
            |bench| bench.entry().join("blobs/sha256").join(bench.amd.config_digest().hex()),
            "has other content",
        ),
        (
            |bench| {
                fs::write(bench.layer(), "short").unwrap();
                PathBuf::new()
            },
            "should have 17 bytes, and has 5",
        ),
        (
            |bench| {
                fs::remove_file(bench.layer()).unwrap();
                PathBuf::new()
            },
            "it has no blob",
        ),
    ];
    for (harm, expected) in harms {
        let bench = Bench::warmed();
        let path = harm(&bench);
        if path != PathBuf::new() {
            damage(&path);
        }
        let found = bench.resolve(NAME, "linux/amd64").unwrap();
        assert_eq!(contents(&found.image), contents(&bench.amd));
        assert_eq!(bench.fake.asked(), ["name r.example/app:1", "image r.example/app:1"]);
        let warning = bench.warnings.take().remove(0);
        assert!(warning.contains("cannot be used") && warning.contains(expected), "{warning}");
        assert_eq!(bench.warm(WARMED + 1, Refresh::Needed), Warmed::Stored, "it is made anew");
        bench.resolve(NAME, "linux/amd64").unwrap();
        assert_eq!(bench.fake.asked(), ["name r.example/app:1"]);
    }
}

#[test]
fn other_content_of_a_layer_is_for_its_reader_to_find_and_is_replaced_when_it_is_renewed() {
    let bench = Bench::warmed();
    damage(&bench.layer());
    let found = bench.resolve(NAME, "linux/amd64").unwrap();
    let copied = write_layout(&bench.directory.path().join("copy"), &found.image, &[]);
    let error = chain(&copied.unwrap_err());
    assert!(error.contains("has other content"), "{error}");
    assert_eq!(bench.warm(WARMED + 3601, Refresh::Needed), Warmed::Stored);
    assert_eq!(
        contents(&bench.resolve_at(WARMED + 3601, NAME, "linux/amd64").unwrap().image),
        contents(&bench.amd)
    );
}

#[test]
fn a_layer_that_goes_away_later_is_fetched_and_each_knows_where_it_comes_from() {
    let bench = Bench::warmed();
    let found = bench.resolve(NAME, "linux/amd64").unwrap();
    fs::remove_dir_all(bench.entry()).unwrap();
    assert_eq!(contents(&found.image), contents(&bench.amd));
    let origin = BlobOrigin { registry: "r.example".into(), repository: "app".into() };
    assert_eq!(found.image.layers()[0].blob.origins(), [origin]);
}

#[test]
fn a_tar_of_an_older_warmer_is_passed_over_with_one_line_and_replaced_by_the_warmer() {
    let bench = Bench::new();
    fs::create_dir(bench.path()).unwrap();
    fs::write(bench.entry(), "a tar").unwrap();
    bench.resolve(NAME, "linux/amd64").unwrap();
    let warnings = bench.warnings.take();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("is a tar of an older warmer and is not used"), "{warnings:?}");
    assert_eq!(bench.warm(WARMED, Refresh::Needed), Warmed::Stored);
    assert!(bench.entry().is_dir());
}

#[test]
fn what_kanikos_warmer_leaves_is_used_although_nothing_stands_beside_it() {
    let mut bench = Bench::new();
    write_layout(&bench.entry(), &bench.amd, &[]).unwrap();
    // Without a record, but for a digest none is needed.
    let now = fs::metadata(bench.entry()).unwrap().modified().unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap() + 1;
    bench.resolve_at(now, NAME, "linux/amd64").unwrap();
    assert_eq!(bench.fake.asked(), ["name r.example/app:1"]);
    bench.fake.is_unreachable = true;
    let digest = format!("other.example/x@{}", bench.amd.digest());
    bench.resolve_at(now, &digest, "linux/amd64").unwrap();
    assert!(bench.resolve_at(now, NAME, "linux/amd64").is_err());
}

#[test]
fn an_index_or_record_that_somebody_changed_is_not_believed() {
    let mut bench = Bench::warmed();
    bench.fake.is_unreachable = true;
    let kept = bench.path().join(".warmer-indexes").join(bench.index.digest.to_string());
    damage(&kept);
    let digest = format!("r.example/app@{}", bench.index.digest);
    assert_eq!(bench.resolve(&digest, "linux/amd64").unwrap_err(), "the wire is cut");
    let warning = bench.warnings.take().remove(0);
    assert!(warning.contains("has other content"), "{warning}");

    let records = bench.path().join(".warmer-records");
    let record = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&record).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["reference"], NAME);
    assert_eq!(written["platform"], "linux/amd64");
    assert_eq!(written["manifest"], bench.amd.digest().to_string());
    assert_eq!(written["index"], bench.index.digest.to_string());
    assert_eq!(written["time"], "2020-09-13T12:26:40Z");
    fs::write(&record, text.replace("app:1", "app:2")).unwrap();
    assert_eq!(bench.resolve(NAME, "linux/amd64").unwrap_err(), "the wire is cut");
    fs::write(&record, "{").unwrap();
    assert_eq!(bench.resolve(NAME, "linux/amd64").unwrap_err(), "the wire is cut");
}

#[test]
fn everybody_may_read_what_is_warmed_and_nothing_half_is_left() {
    let bench = Bench::warmed();
    let mut waiting = vec![bench.path()];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            assert_eq!(mode & 0o555, 0o555, "{}", path.display());
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode & 0o444, 0o444, "{}", path.display());
            files += 1;
        }
    }
    // Two layers, config, manifest, index.json, oci-layout; the index, the record and the lock.
    assert_eq!(files, 9);

    // Left over from a warmer that was killed.
    let partial = bench.path().join(format!(".{}.partial", bench.amd.digest()));
    fs::create_dir_all(partial.join("blobs")).unwrap();
    assert_eq!(bench.warm(WARMED, Refresh::Always), Warmed::Stored);
    assert!(!partial.exists());
    let layer = bench.amd.layers()[0].clone();
    let broken = bench.amd.clone().with_blobs(|_| {
        Arc::new(FakeBlob {
            origin: BlobOrigin { registry: String::new(), repository: String::new() },
            blob: None,
        })
    });
    let error = bench.warm_directory(WARMED).warm(&broken, Refresh::Always).unwrap_err();
    assert!(chain(&error).contains(&layer.descriptor.digest.to_string()), "{}", chain(&error));
    assert!(!partial.exists() && bench.layer().exists(), "what was there is still there");
}

#[test]
fn warmers_at_the_same_time_make_one_entry() {
    let bench = Bench::new();
    let warm = || bench.warm_directory(WARMED).warm(&bench.amd, Refresh::Needed).unwrap();
    let mut done: Vec<Warmed> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(warm)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    done.retain(|warmed| *warmed != Warmed::Present);
    assert_eq!(done, [Warmed::Stored]);
}

#[test]
fn a_directory_that_is_not_there_is_no_error() {
    let bench = Bench::new();
    bench.resolve(NAME, "linux/amd64").unwrap();
    assert_eq!(bench.warnings.take(), [""; 0]);
    assert!(!bench.path().exists(), "looking makes nothing");
}
