//! Contexts in storages that others have written: what they verify has been signed rightly.

#![expect(clippy::disallowed_methods, reason = "tests arrange the world around the crate")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ebiko_cloud::Surroundings as Machine;
use ebiko_remote::{Clouds, GitSettings, Network, Surroundings, fetch};
use ebiko_transport::{Options, Retries, Transport};
use testkit::{CutProxy, Storage, scratch_dir};

/// What is put into every storage, with a name that needs encoding.
const NAME: &str = "team a/ü+1.tar";

fn content() -> Vec<u8> {
    (0..3_000_000_u32).map(|number| (number % 251) as u8).collect()
}

/// A machine with variables and files, and what surrounds it.
#[derive(Default)]
struct World<'w> {
    variables: Vec<(&'w str, String)>,
    files: Vec<(&'w str, String)>,
    options: Options,
}

impl World<'_> {
    fn fetch(&self, context: &str) -> Result<Vec<u8>, String> {
        let retries =
            Retries { attempts: 3, first_wait: Duration::from_millis(1), ..Retries::default() };
        let transport = Transport::new(&Options { retries, ..self.options.clone() })
            .expect("the options are right");
        let variables: BTreeMap<String, String> = self
            .variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let read = |path: &Path| {
            let text = self.files.iter().find(|(name, _)| path == Path::new(name));
            text.map(|(_, text)| text.clone().into_bytes())
                .ok_or(std::io::ErrorKind::NotFound.into())
        };
        let now = || {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.map_or(0, |now| now.as_secs())
        };
        let machine = Machine { variables: &variables, read: &read };
        let work = scratch_dir("stored-").expect("a directory");
        let surroundings = Surroundings {
            current_dir: Path::new("/"),
            work_dir: work.path(),
            network: Network { transport: &transport, is_interrupted: &|| false, ssh: None },
            stdin: None,
            repository: None,
            git: &GitSettings::default(),
            clouds: &Clouds::read(&machine, Arc::new(now)),
        };
        match fetch(context, "", &surroundings) {
            Ok(found) => {
                assert!(found.is_fetched && found.heeds_ignore_file);
                Ok(fs::read(work.path().join("context")).expect("the file is there"))
            }
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(next) = cause {
                    text = format!("{text}: {next}");
                    cause = next.source();
                }
                Err(text)
            }
        }
    }
}

/// The file that storages are filled with, and its bytes.
fn file() -> (tempfile::TempDir, Vec<u8>) {
    let dir = scratch_dir("storage-").expect("a directory");
    let bytes = content();
    fs::write(dir.path().join("file"), &bytes).expect("a file");
    (dir, bytes)
}

#[test]
fn s3_verifies_who_asks_and_what_they_may_read() {
    let (dir, bytes) = file();
    let storage = Storage::s3(&dir.path().join("file"), NAME).expect("moto");
    let (id, secret) = storage.keys();
    let world = |id: &str, secret: &str, endpoint: String| World {
        variables: vec![
            ("S3_ENDPOINT", endpoint),
            ("AWS_ACCESS_KEY_ID", id.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ],
        ..World::default()
    };
    let context = format!("s3://contexts/{NAME}");
    let fetched = world(id, secret, storage.url()).fetch(&context);
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());

    // Every connection breaks after a million bytes.
    let proxy = CutProxy::start(storage.port(), u64::MAX, 1_000_000).expect("a proxy");
    let fetched = world(id, secret, format!("http://{}", proxy.host())).fetch(&context);
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());

    let refused = |world: World<'_>, context: &str| world.fetch(context).expect_err("refused");
    let error = refused(world(id, secret, storage.url()), &format!("s3://closed/{NAME}"));
    let who = format!("it was asked as the owner of the access key `{id}`");
    assert!(
        error.contains("S3 answers 403 Forbidden: AccessDenied") && error.ends_with(&who),
        "{error}"
    );
    let error = refused(world(id, "wrong", storage.url()), &context);
    assert!(error.contains("SignatureDoesNotMatch"), "{error}");
    assert!(!error.contains(secret), "{error}");

    let nobody = World {
        variables: vec![
            ("S3_ENDPOINT", storage.url()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ],
        ..World::default()
    };
    let error = refused(nobody, &context);
    assert!(
        error.contains("S3 answers 403 Forbidden; it was asked without credentials"),
        "{error}"
    );

    // A profile of the shared file, as `aws configure` writes it.
    let profile = World {
        variables: vec![("AWS_ENDPOINT_URL_S3", storage.url()), ("HOME", "/root".into())],
        files: vec![(
            "/root/.aws/credentials",
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
        )],
        ..World::default()
    };
    let fetched = profile.fetch(&context);
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());
}

#[test]
fn google_has_the_object_by_the_name_that_it_was_given() {
    let (dir, bytes) = file();
    let storage = Storage::gcs(&dir.path().join("file"), NAME).expect("the emulator");
    let world =
        World { variables: vec![("STORAGE_EMULATOR_HOST", storage.url())], ..World::default() };
    let fetched = world.fetch(&format!("gs://contexts/{NAME}"));
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());
    let error = world.fetch("gs://contexts").expect_err("there is no such object");
    assert!(error.contains("Cloud Storage answers 404"), "{error}");
}

#[test]
fn azure_verifies_the_shared_key_and_lets_everybody_read_what_is_public() {
    let (dir, bytes) = file();
    let name = "team/a%20b.tar";
    let storage = Storage::azure(&dir.path().join("file"), name).expect("azurite");
    let authority = fs::read(storage.authority().expect("it has one")).expect("a certificate");
    let world = |key: Option<&str>| World {
        variables: match key {
            Some(key) => vec![("AZURE_STORAGE_ACCESS_KEY", key.to_owned())],
            // Nobody listens there.
            None => vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1".into())],
        },
        options: Options {
            roots: vec![authority.clone()],
            hosts: format!("127.0.0.1 {}\n", Storage::azure_host()).into_bytes(),
            ..Options::default()
        },
        ..World::default()
    };
    let (_, key) = storage.keys();
    let base = format!("https://{}:{}", Storage::azure_host(), storage.port());
    let fetched = world(Some(key)).fetch(&format!("{base}/contexts/{name}"));
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());
    let fetched = world(None).fetch(&format!("{base}/public/{name}"));
    assert!(fetched.as_ref() == Ok(&bytes), "{:?}", fetched.err());

    let error = world(Some("d3Jvbmc=")).fetch(&format!("{base}/contexts/{name}"));
    let error = error.expect_err("the key is wrong");
    assert!(
        error.contains("answers 403") && error.contains("(AZURE_STORAGE_ACCESS_KEY)"),
        "{error}"
    );
    assert!(!error.contains("d3Jvbmc"), "{error}");
    let error = world(None).fetch(&format!("{base}/contexts/{name}")).expect_err("it is closed");
    assert!(error.contains("it was asked without credentials, because none of AZURE_"), "{error}");
    let error = world(Some("not base64!")).fetch(&format!("{base}/contexts/{name}"));
    assert!(error.expect_err("no key").ends_with("AZURE_STORAGE_ACCESS_KEY is not in base64"));
}
