//! The three storages on loopback, scripted: what is sent to whom, and what becomes of hostile answers.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;

use ebiko_transport::{Options, Retries, Transport};

use super::*;
use crate::server::{Answer, End, Received, Server, answer};
use crate::spec::ContextSpec;

const NOW: u64 = 1_800_000_000;

/// Fetches `context` on a machine with `variables` and `files`.
fn fetch_as(
    context: &str,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<String, String> {
    let retries = Retries {
        attempts: 2,
        first_wait: std::time::Duration::from_millis(1),
        ..Retries::default()
    };
    let transport =
        Transport::new(&Options { retries, ..Options::default() }).expect("the options are right");
    let network = Network { transport: &transport, is_interrupted: &|| false, ssh: None };
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let read = |path: &Path| {
        let text = files.iter().find(|(name, _)| path == Path::new(name));
        text.map(|(_, text)| text.as_bytes().to_vec()).ok_or(io::ErrorKind::NotFound.into())
    };
    let surroundings = Surroundings { variables: &variables, read: &read };
    let clouds = Clouds::read(&surroundings, Arc::new(|| NOW));
    let directory = testkit::scratch_dir("bucket-").expect("a directory");
    let path = directory.path().join("context");
    let Ok(ContextSpec::Stored(file)) = ContextSpec::parse(context) else {
        panic!("{context} is in a storage")
    };
    match fetch(&network, &clouds, &file, DownloadOptions::default(), &path) {
        Ok(_) => {
            let mut text = String::new();
            let mut file = crate::host::open_file(&path).expect("it is there");
            io::Read::read_to_string(&mut file, &mut text).expect("it is text");
            Ok(text)
        }
        Err(error) => {
            assert!(!path.exists(), "a part of the file is left");
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

/// The first request for `context`, which is not sent, on a machine with `variables` and `files`.
fn first_request(
    context: &str,
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Request, String> {
    let transport = Transport::new(&Options::default()).expect("the defaults are right");
    let network = Network { transport: &transport, is_interrupted: &|| false, ssh: None };
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let read = |path: &Path| {
        let text = files.iter().find(|(name, _)| path == Path::new(name));
        text.map(|(_, text)| text.as_bytes().to_vec()).ok_or(io::ErrorKind::NotFound.into())
    };
    let surroundings = Surroundings { variables: &variables, read: &read };
    let clouds = Clouds::read(&surroundings, Arc::new(|| NOW));
    let Ok(ContextSpec::Stored(file)) = ContextSpec::parse(context) else {
        panic!("{context} is in a storage")
    };
    let now = &*clouds.clock;
    let request = match &file {
        StoredFile::S3(object) => {
            clouds.s3.open(object, &network, now).and_then(|mut opened| opened.request(None))
        }
        StoredFile::Gcs(object) => {
            clouds.gcs.open(object, &network, now).and_then(|mut opened| opened.request(None))
        }
        StoredFile::Azure(blob) => clouds.azure.open(blob, &network, now).request(None),
    };
    request.map_err(|error| error.to_string())
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
}

fn url(server: &Server) -> String {
    format!("http://{}", server.host())
}

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "s3cret-s3cret"),
    ("AWS_SESSION_TOKEN", "session-s3cret"),
];

/// Nobody, as far as AWS goes.
const NO_AWS: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

fn from_s3(server: &Server, context: &str, more: &[(&str, &str)]) -> Result<String, String> {
    let endpoint = url(server);
    let variables = [&[("S3_ENDPOINT", endpoint.as_str()), NO_AWS], more].concat();
    fetch_as(context, &variables, &[])
}

#[test]
fn a_file_of_s3_is_asked_for_with_a_signature_for_one_region() {
    let server = Server::start(|_| answer(200).body("archive"));
    let more = [&KEYS[..], &[("AWS_REGION", "eu-west-1")]].concat();
    assert_eq!(from_s3(&server, "s3://bucket/a b/ä+.tar", &more).as_deref(), Ok("archive"));
    let received = server.received();
    let [request] = received.as_slice() else { panic!("asked {} times", received.len()) };
    assert_eq!(request.line(), "GET /bucket/a%20b/%C3%A4%2B.tar");
    let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/eu-west-1/s3/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=";
    let authorization = request.header("authorization");
    assert!(authorization.starts_with(start), "{authorization}");
    assert_eq!(request.header("x-amz-security-token"), "session-s3cret");
}

#[test]
fn who_is_nobody_asks_without_a_signature() {
    let server = Server::start(|_| answer(200).body("public"));
    assert_eq!(from_s3(&server, "s3://bucket", &[]).as_deref(), Ok("public"));
    let request = &server.received()[0];
    assert_eq!(request.line(), "GET /bucket/context.tar.gz");
    assert_eq!(request.header("authorization"), "");
}

#[test]
fn an_identity_that_is_set_up_and_cannot_be_used_is_not_dropped() {
    let server = Server::start(|_| answer(200).body("public"));
    let error = from_s3(&server, "s3://b/x", &[("AWS_PROFILE", "ci"), ("HOME", "/root")]);
    let expected =
        "cannot download `s3://b/x`: there is no identity for S3: there is no profile `ci`";
    assert_eq!(error, Err(expected.into()));
    assert!(server.received().is_empty());
}

#[test]
fn a_bucket_in_another_region_is_asked_for_there_and_only_once() {
    let region = |request: &Received| {
        request.header("authorization").split('/').nth(2).unwrap_or_default().to_owned()
    };
    let server = Server::start(move |request| match region(request).as_str() {
        "eu-central-1" => answer(200).body("there"),
        _ => answer(400)
            .header("x-amz-bucket-region", "eu-central-1")
            .body("<Error><Code>AuthorizationHeaderMalformed</Code></Error>"),
    });
    assert_eq!(from_s3(&server, "s3://bucket/x", &KEYS).as_deref(), Ok("there"));
    assert_eq!(server.received().len(), 2);

    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        answer(301).header("x-amz-bucket-region", format!("eu-west-{number}"))
    });
    let error = from_s3(&server, "s3://bucket/x", &KEYS).expect_err("it is nowhere");
    assert!(
        error.contains("S3 answers 301 Moved Permanently; it was asked as the owner"),
        "{error}"
    );
    assert_eq!(server.received().len(), 2);

    // What is no region would be a host.
    let server = Server::start(|_| answer(400).header("x-amz-bucket-region", "evil.example/"));
    assert!(from_s3(&server, "s3://bucket/x", &KEYS).is_err());
    assert_eq!(server.received().len(), 1);
}

#[test]
fn no_redirect_gets_a_signature_or_a_token() {
    let thief = Server::start(|_| answer(200).body("mine now"));
    for status in [301, 302, 303, 307, 308] {
        let target = url(&thief);
        let server =
            Server::start(move |_| answer(status).header("location", format!("{target}/x")));
        let error = from_s3(&server, "s3://bucket/x", &KEYS).expect_err("it is elsewhere");
        assert!(error.contains(&format!("S3 answers {status}")), "{error}");
        let emulator = url(&server);
        let error = fetch_as("gs://b/x", &[("STORAGE_EMULATOR_HOST", &emulator)], &[]);
        assert!(error.is_err());
    }
    assert!(thief.received().is_empty());
}

#[test]
fn a_refusal_says_who_asked_and_repeats_no_secret() {
    let server = Server::start(|request| {
        let echo = format!(
            "no, {} and {}",
            request.header("authorization"),
            request.header("x-amz-security-token")
        );
        answer(403)
            .body(format!("<Error><Code>AccessDenied</Code><Message>{echo}</Message></Error>"))
    });
    let error = from_s3(&server, "s3://bucket/x", &KEYS).expect_err("it is refused");
    let signature = server.received()[0].header("authorization").to_owned();
    let signature = signature.rsplit('=').next().unwrap_or_default();
    assert!(!error.contains("s3cret") && !error.contains(signature), "{error}");
    let who = "S3 answers 403 Forbidden: AccessDenied: no, ";
    assert!(error.contains(who), "{error}");
    let end = "it was asked as the owner of the access key `AKIDEXAMPLE`";
    assert!(error.ends_with(end), "{error}");

    let error = from_s3(&server, "s3://bucket/x", &[]).expect_err("it is refused");
    assert!(
        error.contains("it was asked without credentials, because there are no AWS"),
        "{error}"
    );
}

/// Serves `whole`, breaking off after `piece` bytes of every answer, as S3 and Azure do it.
fn breaking(whole: &'static str, piece: usize) -> impl Fn(&Received) -> Answer {
    move |request| {
        let start = request.header("range").trim_start_matches("bytes=").trim_end_matches('-');
        let start: usize = start.parse().unwrap_or(0);
        if start > 0 && request.header("if-match") != "\"v1\"" {
            return answer(412);
        }
        let rest = &whole[start..];
        let end = if rest.len() > piece { End::Cut(piece) } else { End::Whole };
        let status = if start > 0 { 206 } else { 200 };
        let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
        let answer = answer(status).header("etag", "\"v1\"").body(rest).end(end);
        if start > 0 { answer.header("content-range", range) } else { answer }
    }
}

#[test]
fn a_download_goes_on_where_it_broke_and_signs_anew() {
    let server = Server::start(breaking("0123456789", 6));
    assert_eq!(from_s3(&server, "s3://bucket/x", &KEYS).as_deref(), Ok("0123456789"));
    let received = server.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].header("range"), "bytes=6-");
    assert!(received[1].header("authorization").starts_with("AWS4-HMAC-SHA256 "));
}

#[test]
fn a_download_that_gets_on_may_break_more_often_than_it_is_tried() {
    let whole: &'static str = Box::leak("x".repeat(700_000).into_boxed_str());
    let server = Server::start(breaking(whole, 100_000));
    let fetched = from_s3(&server, "s3://bucket/x", &KEYS).expect("the whole");
    assert_eq!(fetched.len(), whole.len());
    assert_eq!(server.received().len(), 7, "and there are two attempts");
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    let server = Server::start(|request| match request.header("range") {
        "" => answer(200).header("etag", "\"v1\"").body("0123456789").end(End::Cut(6)),
        _ => answer(412),
    });
    let error = from_s3(&server, "s3://bucket/x", &KEYS).expect_err("there are two of them");
    assert!(error.ends_with("the file changed while it was downloaded"), "{error}");
    let server = Server::start(|request| match request.header("range") {
        "" => answer(200).header("etag", "\"v1\"").body("0123456789").end(End::Cut(6)),
        _ => answer(206)
            .header("etag", "\"v2\"")
            .header("content-range", "bytes 6-9/10")
            .body("6789"),
    });
    let error = from_s3(&server, "s3://bucket/x", &KEYS).expect_err("there are two of them");
    assert!(error.ends_with("the file changed while it was downloaded"), "{error}");
}

#[track_caller]
fn check_s3_url(context: &str, variables: &[(&str, &str)], expected: &str) {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let read = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let settings = s3::Settings::read(&Surroundings { variables: &variables, read: &read });
    let Ok(ContextSpec::Stored(StoredFile::S3(object))) = ContextSpec::parse(context) else {
        panic!("{context} is in S3")
    };
    let actual = match settings.url(&object, "eu-west-1") {
        Ok(url) => url.to_string(),
        Err(error) => error,
    };
    assert_eq!(actual, expected, "{context}");
}

#[test]
fn a_bucket_is_a_name_below_its_region_or_endpoint_unless_it_cannot_be_one() {
    let plain = "https://bucket.s3.eu-west-1.amazonaws.com/a/b";
    check_s3_url("s3://bucket/a/b", &[], plain);
    check_s3_url("s3://a.bucket/x", &[], "https://s3.eu-west-1.amazonaws.com/a.bucket/x");
    check_s3_url("s3://Bucket/x", &[], "https://s3.eu-west-1.amazonaws.com/Bucket/x");
    let forced = [("S3_FORCE_PATH_STYLE", "true")];
    check_s3_url("s3://bucket/x", &forced, "https://s3.eu-west-1.amazonaws.com/bucket/x");
    check_s3_url(
        "s3://bucket/x",
        &[("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true")],
        "https://bucket.s3-fips.dualstack.eu-west-1.amazonaws.com/x",
    );
    let minio = ("S3_ENDPOINT", "http://minio.corp:9000/");
    check_s3_url("s3://bucket/x", &[minio], "http://bucket.minio.corp:9000/x");
    check_s3_url("s3://bucket/x", &[minio, forced[0]], "http://minio.corp:9000/bucket/x");
    check_s3_url(
        "s3://bucket/x",
        &[minio, ("AWS_ENDPOINT_URL_S3", "https://other.example")],
        "http://bucket.minio.corp:9000/x",
    );
    check_s3_url(
        "s3://bucket/x",
        &[("AWS_ENDPOINT_URL_S3", "https://other.example/s3"), ("AWS_ENDPOINT_URL", "https://no")],
        "https://bucket.other.example/s3/x",
    );
    let local = [("AWS_ENDPOINT_URL", "http://localhost:4566")];
    check_s3_url("s3://bucket/x", &local, "http://localhost:4566/bucket/x");
    let wrong = "S3_ENDPOINT is not the URL of a server";
    check_s3_url("s3://bucket/x", &[("S3_ENDPOINT", "https://u:p@evil.example")], wrong);
}

/// Google's token service and storage on one server.
fn google(request: &Received) -> Answer {
    match request.line().as_str() {
        "POST /token" => answer(200).body(r#"{"access_token":"ya29.s3cret","expires_in":3600}"#),
        _ => answer(403).body(r#"{"error":{"code":403,"message":"no storage.objects.get"}}"#),
    }
}

#[test]
fn an_emulator_of_google_is_shown_no_token() {
    let server = Server::start(|_| answer(200).header("x-goog-generation", "7").body("object"));
    let tokens = Server::start(google);
    let file = format!(
        r#"{{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","token_uri":"{}/token"}}"#,
        url(&tokens)
    );
    let host = server.host();
    let variables =
        [("STORAGE_EMULATOR_HOST", host.as_str()), ("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")];
    let fetched = fetch_as("gs://b/a/b c", &variables, &[("/adc.json", &file)]);
    assert_eq!(fetched.as_deref(), Ok("object"));
    let request = &server.received()[0];
    assert_eq!(request.target, "/storage/v1/b/b/o/a%2Fb%20c?alt=media");
    assert_eq!(request.header("authorization"), "");
    assert!(tokens.received().is_empty());
}

#[test]
fn an_object_of_google_goes_on_in_the_same_generation() {
    let server = Server::start(|request| {
        let whole = answer(200).header("x-goog-generation", "7").body("0123456789");
        match (request.header("range"), request.target.ends_with("?alt=media&generation=7")) {
            ("", false) => whole.end(End::Cut(6)),
            ("bytes=6-", true) => answer(206).header("content-range", "bytes 6-9/10").body("6789"),
            _ => answer(500),
        }
    });
    let emulator = url(&server);
    let fetched = fetch_as("gs://b/x", &[("STORAGE_EMULATOR_HOST", &emulator)], &[]);
    assert_eq!(fetched.as_deref(), Ok("0123456789"));
}

#[test]
fn google_gets_the_token_of_whoever_this_machine_is() {
    let server = Server::start(google);
    let file = |token_url: &str| {
        format!(
            r#"{{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","token_uri":"{token_url}"}}"#
        )
    };
    let named = [("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")];
    let good = file(&format!("{}/token", url(&server)));
    let request = first_request("gs://b/x", &named, &[("/adc.json", &good)]).expect("a request");
    assert_eq!(request.url.as_str(), "https://storage.googleapis.com/storage/v1/b/b/o/x?alt=media");
    assert_eq!(header(&request, "authorization"), "Bearer ya29.s3cret");
    assert!(!request.follows_redirects);
    assert!(!format!("{request:?}").contains("s3cret"));

    let error = first_request("gs://b/x", &named, &[]).expect_err("there is no file");
    let expected =
        "there is no identity for Cloud Storage: `/adc.json` cannot be read: entity not found";
    assert_eq!(error, expected);
    let server =
        Server::start(|_| answer(200).body(r#"{"access_token":"machine","expires_in":3600}"#));
    let host = server.host();
    let request = first_request("gs://b/x", &[("GCE_METADATA_HOST", &host)], &[]);
    assert_eq!(header(&request.expect("a request"), "authorization"), "Bearer machine");
    let request = first_request("gs://b/x", &[("GCE_METADATA_HOST", "127.0.0.1:1")], &[]);
    assert_eq!(header(&request.expect("a request"), "authorization"), "");
}

#[test]
fn azure_gets_a_token_for_storages_from_its_own_directory() {
    const BLOB: &str = "https://me.blob.core.windows.net/c/x";
    let server =
        Server::start(|_| answer(200).body(r#"{"access_token":"aad.s3cret","expires_in":"3599"}"#));
    let directory = url(&server);
    let application = [
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_AUTHORITY_HOST", directory.as_str()),
    ];
    let secret = [&application[..], &[("AZURE_CLIENT_SECRET", "cs")]].concat();
    let federated = [&application[..], &[("AZURE_FEDERATED_TOKEN_FILE", "/jwt")]].concat();
    let managed = [("AZURE_POD_IDENTITY_AUTHORITY_HOST", directory.as_str())];
    for (variables, asked) in [
        (&secret[..], "scope=https%3A%2F%2Fstorage.azure.com%2F.default&client_secret=cs"),
        (&federated[..], "client_assertion=the-token"),
        (&managed[..], "resource=https%3A%2F%2Fstorage.azure.com%2F"),
    ] {
        let request =
            first_request(BLOB, variables, &[("/jwt", "the-token\n")]).expect("a request");
        assert_eq!(header(&request, "authorization"), "Bearer aad.s3cret");
        assert_eq!(header(&request, "x-ms-version"), "2021-12-02");
        assert_eq!(header(&request, "x-ms-date"), "Fri, 15 Jan 2027 08:00:00 GMT");
        let received = server.received();
        let last = received.last().expect("it was asked");
        let text = format!("{} {}", last.target, String::from_utf8_lossy(&last.body));
        assert!(text.contains(asked), "{text}");
    }
    // The key comes first, as in kaniko, and nobody is asked.
    let count = server.received().len();
    let key = [&secret[..], &[("AZURE_STORAGE_ACCESS_KEY", "a2V5")]].concat();
    let request = first_request(BLOB, &key, &[]).expect("a request");
    assert!(header(&request, "authorization").starts_with("SharedKey me:"));
    assert_eq!(server.received().len(), count);
}

#[test]
fn s3_gets_the_keys_of_a_web_identity_or_of_the_pod() {
    let sts = Server::start(|request| {
        match request.line().as_str() {
        "GET /v1/credentials" => answer(200).body(
            r#"{"AccessKeyId":"ASIAPOD","SecretAccessKey":"s","Token":"session","Expiration":"2027-01-15T09:00:00Z"}"#,
        ),
        _ => answer(200).body(
            "<R><Credentials><AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
             <SessionToken>session</SessionToken><Expiration>2027-01-15T09:00:00Z</Expiration></Credentials></R>",
        ),
    }
    });
    let base = url(&sts);
    let pod = format!("{base}/v1/credentials");
    let web = [
        ("AWS_ENDPOINT_URL_STS", base.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/builder"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_REGION", "eu-west-1"),
    ];
    for (variables, id, region) in [
        (&web[..], "ASIAWEB", "eu-west-1"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", pod.as_str())][..], "ASIAPOD", "us-east-1"),
    ] {
        let request = first_request("s3://bucket/x", variables, &[("/token", "jwt")]);
        let request = request.expect("a request");
        let expected = format!("https://bucket.s3.{region}.amazonaws.com/x");
        assert_eq!(request.url.as_str(), expected);
        let authorization = header(&request, "authorization");
        assert!(authorization.contains(&format!("Credential={id}/")), "{authorization}");
        assert_eq!(header(&request, "x-amz-security-token"), "session");
        assert!(!request.follows_redirects);
    }
}

#[test]
fn what_is_not_over_yet_is_not_asked_for_again() {
    let server = Server::start(google);
    let file = format!(
        r#"{{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","token_uri":"{}/token"}}"#,
        url(&server)
    );
    let mut slot = None;
    let google = ebiko_cloud::Google::read(&Surroundings {
        variables: &BTreeMap::from([(
            "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
            "/adc.json".to_owned(),
        )]),
        read: &|_: &Path| Ok(file.clone().into_bytes()),
    });
    let transport = Transport::new(&Options::default()).expect("the defaults are right");
    let http = ebiko_cloud::Http::new(&transport);
    for (now, asked) in [(NOW, 1), (NOW + 3500, 1), (NOW + 3600 - MARGIN, 2)] {
        let proof = current(&mut slot, now, "a storage", || {
            let token = google.token(&http, now)?;
            Ok((token.secret, token.until))
        });
        assert!(matches!(proof, Ok(Proof::Some { .. })));
        assert_eq!(server.received().len(), asked, "{now}");
    }
}
