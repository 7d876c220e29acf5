//! The helpers against token services on loopback that look at every request.

mod azure;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ebiko_transport::{Options, Proxies, Retries};

use super::*;
use crate::credentials::{Credentials, Found, Identity};
use crate::routes::Access;
use crate::server::{Answer as Response, Received, Server, answer};

const NOW: u64 = 1_800_000_000;

/// 2027-01-15T08:00:00Z and an hour later.
const LATER: &str = "2027-01-15T09:00:00Z";

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A machine with variables and files.
#[derive(Clone)]
struct Machine {
    variables: BTreeMap<String, String>,
    files: BTreeMap<&'static str, String>,
    now: Arc<AtomicU64>,
}

impl Machine {
    fn new(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let now = Arc::new(AtomicU64::new(NOW));
        Self { variables: variables.collect(), files: BTreeMap::new(), now }
    }

    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.insert(path, text.into());
        self
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn with<T>(&self, look: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let read = |path: &Path| {
            let text = path.to_str().and_then(|path| self.files.get(path));
            text.map(|text| text.clone().into_bytes()).ok_or(io::ErrorKind::NotFound.into())
        };
        look(&Surroundings { variables: &self.variables, read: &read })
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Arc::new(move || now.load(Ordering::SeqCst))
    }

    fn helpers(&self) -> Helpers {
        self.with(|surroundings| Helpers::read(&Helper::ALL, surroundings, self.clock()))
    }

    /// What `helper` says of `registry`.
    #[track_caller]
    fn check(&self, helper: Helper, registry: &str, expected: &str) {
        assert_eq!(show(self.helpers().ask(helper, &transport(), registry)), expected);
    }
}

fn transport() -> Transport {
    let options = Options {
        retries: Retries { first_wait: std::time::Duration::from_millis(1), ..Retries::default() },
        // Metadata services are never asked through a proxy.
        proxies: Proxies { http: Some("http://127.0.0.1:9".into()), ..Proxies::default() },
        ..Options::default()
    };
    Transport::new(&options).expect("the options are right")
}

fn show(answer: Answer) -> String {
    match answer {
        Answer::NotMine => "not mine".into(),
        Answer::Credential(Credential::Basic { user, password }) => {
            format!("{user} {}", password.reveal())
        }
        Answer::Credential(Credential::Identity { token }) => {
            format!("identity {}", token.reveal())
        }
        Answer::Credential(Credential::Bearer { .. }) => "bearer".into(),
        Answer::Nothing { why } => format!("nothing: {why}"),
        Answer::Failed { why, .. } => format!("failed: {why}"),
    }
}

fn url(server: &Server) -> String {
    format!("http://{}", server.host())
}

/// The fields of a form.
fn fields(request: &Received) -> BTreeMap<String, String> {
    let query = String::from_utf8(request.body.clone()).expect("a form is text");
    let url =
        ebiko_transport::Url::parse(&format!("http://x/?{query}")).expect("a form is a query");
    url.query_pairs().into_owned().collect()
}

#[track_caller]
fn check_fields(request: &Received, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    assert_eq!(fields(request), expected.collect::<BTreeMap<String, String>>());
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
}

/// ECR: `AWS:password` in base64, for twelve hours.
fn ecr_answer() -> Response {
    answer(200).body(format!(
        r#"{{"authorizationData":[{{"authorizationToken":"QVdTOnBhc3N3b3Jk","expiresAt":{}.5,"proxyEndpoint":"https://x"}}]}}"#,
        NOW + 43_200
    ))
}

fn sts_answer(id: &str) -> Response {
    answer(200).body(format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>session</SessionToken>\
         <Expiration>{LATER}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

fn json_keys(id: &str) -> Response {
    answer(200).body(format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"s","Token":"session","Expiration":"{LATER}"}}"#
    ))
}

#[test]
fn ecr_is_asked_once_with_keys_from_variables_and_again_when_the_password_ends() {
    let server = Server::start(|_| ecr_answer());
    let machine =
        Machine::new(&[("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "s")])
            .set("AWS_SESSION_TOKEN", "session")
            .set("AWS_ENDPOINT_URL_ECR", url(&server));
    let helpers = machine.helpers();
    let ask = || show(helpers.ask(Helper::Ecr, &transport(), ECR));
    for _ in 0..3 {
        assert_eq!(ask(), "AWS password");
    }
    let received = server.received();
    let [request] = received.as_slice() else { panic!("asked {} times", received.len()) };
    assert_eq!((request.line().as_str(), request.body.as_slice()), ("POST /", &b"{}"[..]));
    for (name, value) in [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"),
        ("x-amz-date", "20270115T080000Z"),
        ("x-amz-security-token", "session"),
    ] {
        assert_eq!(request.header(name), value);
    }
    let authorization = request.header("authorization");
    let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/eu-west-1/ecr/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=";
    assert!(authorization.starts_with(start), "{authorization}");

    machine.now.store(NOW + 43_200 - MARGIN, Ordering::SeqCst);
    assert_eq!(ask(), "AWS password");
    assert_eq!(server.received().len(), 2);
}

#[test]
fn the_public_registry_has_a_service_of_its_own() {
    let server = Server::start(|_| {
        answer(200).body(r#"{"authorizationData":{"authorizationToken":"QVdTOnBhc3N3b3Jk"}}"#)
    });
    let machine = Machine::new(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    let machine = machine.set("AWS_ENDPOINT_URL_ECR_PUBLIC", url(&server));
    machine.check(Helper::Ecr, "public.ecr.aws", "AWS password");
    let request = &server.received()[0];
    assert_eq!(request.header("x-amz-target"), "SpencerFrontendService.GetAuthorizationToken");
    assert!(request.header("authorization").contains("/us-east-1/ecr-public/aws4_request"));
}

#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let server = Server::start(|request| match request.header("x-amz-target") {
        "" => sts_answer("ASIA1"),
        _ => ecr_answer(),
    });
    let role = "arn:aws:iam::123456789012:role/builder";
    let machine =
        Machine::new(&[("AWS_ROLE_ARN", role), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")])
            .set("AWS_ENDPOINT_URL", url(&server))
            .file("/token", "jwt\n");
    machine.check(Helper::Ecr, ECR, "AWS password");
    let received = server.received();
    check_fields(
        &received[0],
        &[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", "ebiko"),
            ("WebIdentityToken", "jwt"),
        ],
    );
    assert_eq!(received[0].header("authorization"), "", "the token is the proof");
    assert!(received[1].header("authorization").contains("Credential=ASIA1/"));
    assert_eq!(received[1].header("x-amz-security-token"), "session");
}

#[test]
fn a_profile_may_assume_a_role_with_the_keys_of_another() {
    let server = Server::start(|request| match request.header("x-amz-target") {
        "" => sts_answer("ASIA2"),
        _ => ecr_answer(),
    });
    let machine = Machine::new(&[("HOME", "/root"), ("AWS_PROFILE", "ci")])
        .set("AWS_ENDPOINT_URL", url(&server))
        .file(
            "/root/.aws/config",
            "[profile ci]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\nexternal_id = e\nregion = eu-north-1\n",
        )
        .file("/root/.aws/credentials", "[base]\naws_access_key_id=AKIA\naws_secret_access_key=s\n");
    machine.check(Helper::Ecr, ECR, "AWS password");
    let request = &server.received()[0];
    check_fields(
        request,
        &[
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", "arn:aws:iam::1:role/x"),
            ("RoleSessionName", "ebiko"),
            ("ExternalId", "e"),
        ],
    );
    let authorization = request.header("authorization");
    let start = "AWS4-HMAC-SHA256 Credential=AKIA/20270115/eu-north-1/sts/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, ";
    assert!(authorization.starts_with(start), "{authorization}");
}

#[test]
fn a_profile_that_cannot_be_used_says_why() {
    for (config, expected) in [
        (
            "[profile ci]\ncredential_process = /bin/x\n",
            "the profile `ci` has a `credential_process`, which is not supported",
        ),
        (
            "[profile ci]\nrole_arn = a\n",
            "the profile `ci` has a `role_arn` and nothing to assume the role with",
        ),
        (
            "[profile ci]\nrole_arn = a\nsource_profile = b\n[profile b]\nrole_arn = a\nsource_profile = ci\n",
            "the profile `b` leads to too many others",
        ),
        (
            "[profile ci]\nrole_arn = a\nsource_profile = b\n",
            "the profile `ci` has a `role_arn`, and its source has no credentials",
        ),
        ("", "there is no profile `ci`"),
    ] {
        let machine = Machine::new(&[("HOME", "/root"), ("AWS_PROFILE", "ci")]);
        let machine = machine.file("/root/.aws/config", config);
        machine.check(Helper::Ecr, ECR, &format!("failed: {expected}"));
    }
}

#[test]
fn a_container_has_an_endpoint_and_a_token_for_it() {
    let server = Server::start(|request| match request.line().as_str() {
        "GET /v1/credentials" => json_keys("ASIA3"),
        _ => ecr_answer(),
    });
    let machine = Machine::new(&[("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/pod-identity")])
        .set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", url(&server)))
        .set("AWS_ENDPOINT_URL_ECR", url(&server))
        .file("/pod-identity", "pod-token");
    machine.check(Helper::Ecr, ECR, "AWS password");
    let received = server.received();
    assert_eq!(received[0].header("authorization"), "pod-token");
    assert!(received[1].header("authorization").contains("Credential=ASIA3/"));

    // The token goes to addresses of the container's own only.
    let machine = machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/");
    let expected = "failed: AWS_CONTAINER_CREDENTIALS_FULL_URI is not an https URL";
    machine.check(Helper::Ecr, ECR, expected);
}

#[test]
fn an_instance_is_asked_in_version_2_of_the_protocol() {
    let server = Server::start(|request| match request.line().as_str() {
        "PUT /latest/api/token" => answer(200).body("imds-token"),
        "GET /latest/meta-data/iam/security-credentials/" => answer(200).body("the-role\n"),
        "GET /latest/meta-data/iam/security-credentials/the-role" => json_keys("ASIA4"),
        _ => ecr_answer(),
    });
    let machine = Machine::new(&[])
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", url(&server))
        .set("AWS_ENDPOINT_URL_ECR", url(&server));
    machine.check(Helper::Ecr, ECR, "AWS password");
    let received = server.received();
    assert_eq!(received[0].header("x-aws-ec2-metadata-token-ttl-seconds"), "300");
    assert_eq!(received[1].header("x-aws-ec2-metadata-token"), "imds-token");
    assert_eq!(received[2].header("x-aws-ec2-metadata-token"), "imds-token");
    assert!(received[3].header("authorization").contains("Credential=ASIA4/"));
}

#[test]
fn who_is_not_in_the_cloud_has_nothing_and_is_told_why() {
    let machine = Machine::new(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    machine.check(
        Helper::Ecr,
        ECR,
        "nothing: there are no AWS credentials in variables, in a profile or of this container, and the instance metadata \
         service is turned off (AWS_EC2_METADATA_DISABLED)",
    );
    // Nobody listens there.
    let gone = "127.0.0.1:1";
    let machine = Machine::new(&[("GCE_METADATA_HOST", gone)])
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{gone}"));
    for (helper, registry, expected) in [
        (
            Helper::Ecr,
            ECR,
            "nothing: the EC2 instance metadata service does not answer: cannot connect: ",
        ),
        (
            Helper::Google,
            "eu.gcr.io",
            "nothing: GOOGLE_APPLICATION_CREDENTIALS is not set, and Google's metadata service does not answer: ",
        ),
    ] {
        let actual = show(machine.helpers().ask(helper, &transport(), registry));
        assert!(actual.starts_with(expected), "{actual}");
    }
}

#[test]
fn the_metadata_service_of_another_cloud_is_no_failure() {
    let server = Server::start(|_| answer(401).body("<html>who are you</html>"));
    let machine = Machine::new(&[("GCE_METADATA_HOST", &server.host())])
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", url(&server));
    for (helper, registry, expected) in [
        (Helper::Ecr, ECR, "nothing: the EC2 instance metadata service answers 401 Unauthorized"),
        (
            Helper::Google,
            "gcr.io",
            "nothing: GOOGLE_APPLICATION_CREDENTIALS is not set, and Google's metadata service answers 401 Unauthorized",
        ),
    ] {
        machine.check(helper, registry, expected);
    }
}

#[test]
fn a_metadata_service_that_is_not_ready_is_asked_again() {
    let count = AtomicU64::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(503),
        _ => answer(200).body(r#"{"access_token":"ya29","expires_in":3599}"#),
    });
    let machine = Machine::new(&[("GCE_METADATA_HOST", &server.host())]);
    machine.check(Helper::Google, "gcr.io", "oauth2accesstoken ya29");
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_refusal_of_a_service_is_a_failure_that_is_told_once_and_holds_no_secret() {
    let server = Server::start(|_| {
        answer(400).body(r#"{"__type":"AccessDeniedException","message":"not authorized"}"#)
    });
    let machine = Machine::new(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s3cret")])
        .set("AWS_ENDPOINT_URL_ECR", url(&server));
    let helpers = machine.helpers();
    let why = "GetAuthorizationToken of ECR answers 400 Bad Request: AccessDeniedException: not authorized".to_owned();
    for is_news in [true, false, false] {
        let answer = helpers.ask(Helper::Ecr, &transport(), ECR);
        assert_eq!(answer, Answer::Failed { why: why.clone(), is_news });
    }
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_repository_of_ecr_is_made_and_gets_its_policies() {
    let server = Server::start(|request| {
        match request.header("x-amz-target") {
        target if target.ends_with("CreateRepository") => answer(400).body(
            r#"{"__type":"com.amazonaws.ecr#RepositoryAlreadyExistsException","message":"it exists"}"#,
        ),
        target if target.ends_with("SetRepositoryPolicy") => {
            answer(400).body(r#"{"__type":"InvalidParameterException","message":"no policy"}"#)
        }
        _ => answer(200).body("{}"),
    }
    });
    let machine = Machine::new(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s3cret")])
        .set("AWS_ENDPOINT_URL_ECR", url(&server));
    let prepare = |repository: EcrRepository<'_>| {
        machine.with(|surroundings| prepare_ecr(&transport(), surroundings, &repository, NOW))
    };
    let repository = EcrRepository {
        registry: ECR,
        name: "team/app",
        is_made: true,
        lifecycle_policy: Some("{\"rules\":[]}"),
        policy: None,
    };
    prepare(repository).unwrap();
    let received = server.received();
    let targets: Vec<&str> = received
        .iter()
        .filter_map(|request| request.header("x-amz-target").rsplit('.').next())
        .collect();
    assert_eq!(targets, ["CreateRepository", "PutLifecyclePolicy"]);
    assert_eq!(received[0].body, br#"{"repositoryName":"team/app"}"#);
    assert_eq!(
        received[1].body,
        br#"{"lifecyclePolicyText":"{\"rules\":[]}","repositoryName":"team/app"}"#
    );
    assert!(received[0].header("authorization").contains("/eu-west-1/ecr/aws4_request"));

    let error = prepare(EcrRepository { policy: Some("{}"), ..repository }).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot prepare the repository `team/app` in `{ECR}`: SetRepositoryPolicy of ECR answers 400 Bad Request: \
             InvalidParameterException: no policy"
        )
    );
    let elsewhere = prepare(EcrRepository { registry: "r.io", ..repository }).unwrap_err();
    assert!(elsewhere.why.contains("no registry of Amazon's"), "{elsewhere}");
}

#[test]
fn google_takes_a_token_for_what_a_service_account_signs() {
    let server =
        Server::start(|_| answer(200).body(r#"{"access_token":"ya29","expires_in":3599}"#));
    let token_url = format!("{}/token", url(&server));
    let (private, public) = rsa_key();
    let file = serde_json::json!({
        "type": "service_account", "client_email": "b@p.iam.gserviceaccount.com",
        "private_key": private, "private_key_id": "k1", "token_uri": token_url,
    });
    let machine = Machine::new(&[("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")]);
    let machine = machine.file("/key.json", file.to_string());
    machine.check(Helper::Google, "europe-docker.pkg.dev", "oauth2accesstoken ya29");

    let fields = fields(&server.received()[0]);
    assert_eq!(fields["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let parts: Vec<&str> = fields["assertion"].split('.').collect();
    let decode = |part: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("it is base64")
    };
    let json =
        |part| serde_json::from_slice::<serde_json::Value>(&decode(part)).expect("it is JSON");
    assert_eq!(json(parts[0]), serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(
        json(parts[1]),
        serde_json::json!({
            "iss": "b@p.iam.gserviceaccount.com", "aud": token_url, "iat": NOW, "exp": NOW + 3600,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
        })
    );
    let key = ring::signature::UnparsedPublicKey::new(
        &ring::signature::RSA_PKCS1_2048_8192_SHA256,
        public,
    );
    let signed = format!("{}.{}", parts[0], parts[1]);
    key.verify(signed.as_bytes(), &decode(parts[2])).expect("the signature is right");
}

/// A new key: PEM, and the public half.
fn rsa_key() -> (String, Vec<u8>) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::KeyPair;
    let pem = testkit::rsa_key().expect("openssl makes one");
    let lines = pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let der = STANDARD.decode(lines).expect("it is PEM");
    let pair = ring::signature::RsaKeyPair::from_pkcs8(&der).expect("it is a key");
    (pem, pair.public_key().as_ref().to_vec())
}

#[test]
fn google_takes_a_token_for_a_users_login() {
    let server = Server::start(|_| answer(200).body(r#"{"access_token":"ya29"}"#));
    let file = serde_json::json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "cs", "refresh_token": "r",
        "token_uri": format!("{}/token", url(&server)),
    });
    let path = "/root/.config/gcloud/application_default_credentials.json";
    let machine = Machine::new(&[("HOME", "/root")]).file(path, file.to_string());
    machine.check(Helper::Google, "gcr.io", "oauth2accesstoken ya29");
    check_fields(
        &server.received()[0],
        &[
            ("grant_type", "refresh_token"),
            ("client_id", "c"),
            ("client_secret", "cs"),
            ("refresh_token", "r"),
        ],
    );
}

#[test]
fn google_exchanges_the_token_of_somebody_else_and_lends_a_service_account() {
    let server = Server::start(|request| match request.line().as_str() {
        "POST /v1/token" => answer(200).body(r#"{"access_token":"federated","expires_in":3600}"#),
        _ => {
            answer(200).body(format!(r#"{{"accessToken":"impersonated","expireTime":"{LATER}"}}"#))
        }
    });
    let file = serde_json::json!({
        "type": "external_account", "audience": "//iam.googleapis.com/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/v1/token", url(&server)),
        "service_account_impersonation_url": format!("{}/v1/sa:generateAccessToken", url(&server)),
        "credential_source": {"file": "/oidc", "format": {"type": "json", "subject_token_field_name": "value"}},
    });
    let machine = Machine::new(&[("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")])
        .file("/adc.json", file.to_string())
        .file("/oidc", r#"{"value":"jwt"}"#);
    machine.check(Helper::Google, "gcr.io", "oauth2accesstoken impersonated");
    let received = server.received();
    check_fields(
        &received[0],
        &[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", "//iam.googleapis.com/x"),
            ("scope", "https://www.googleapis.com/auth/cloud-platform"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", "jwt"),
        ],
    );
    assert_eq!(received[1].header("authorization"), "Bearer federated");
}

#[test]
fn google_has_a_metadata_service() {
    let server = Server::start(|_| answer(200).body(r#"{"access_token":"ya29","expires_in":100}"#));
    let machine = Machine::new(&[("GCE_METADATA_HOST", &server.host())]);
    machine.check(Helper::Google, "gcr.io", "oauth2accesstoken ya29");
    let request = &server.received()[0];
    let line = "GET /computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!((request.line().as_str(), request.header("metadata-flavor")), (line, "Google"));
}

#[test]
fn a_file_of_google_that_cannot_be_used_says_why_and_quotes_nothing() {
    for (text, expected) in [
        ("s3cret", "failed: `/adc.json` is not a file of Google's credentials"),
        (
            r#"{"type":"x"}"#,
            "failed: `/adc.json` holds credentials of the kind `x`, which is not supported",
        ),
        (r#"{"type":"authorized_user"}"#, "failed: `/adc.json` has no `client_id`"),
        (
            r#"{"type":"service_account","client_email":"x","private_key":"s3cret"}"#,
            "failed: the `private_key` of the service account is not an RSA key",
        ),
        (
            r#"{"type":"service_account","client_email":"x","private_key":"s3cret","token_uri":"http://evil.example/"}"#,
            "failed: `/adc.json` has a `token_uri` that is not an https URL",
        ),
    ] {
        let machine = Machine::new(&[("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")]);
        machine.file("/adc.json", text).check(Helper::Google, "gcr.io", expected);
    }
    let machine = Machine::new(&[("GOOGLE_APPLICATION_CREDENTIALS", "/none")]);
    machine.check(Helper::Google, "gcr.io", "failed: `/none` cannot be read: entity not found");
}

/// Azure: the helper with the registry's exchange, and the instance's metadata, on `server`.
fn acr(machine: &Machine, server: &Server) -> String {
    let mut machine = machine.clone();
    machine.variables.insert("AZURE_POD_IDENTITY_AUTHORITY_HOST".into(), url(server));
    let mut acr = machine.with(Acr::read);
    acr.exchange = format!("{}/oauth2/exchange", url(server)).parse().ok();
    let transport = transport();
    match acr.lend(&Http::new(&transport), "r.azurecr.io", NOW) {
        Ok(Lent { credential, .. }) => show(Answer::Credential(credential)),
        Err(obstacle) => format!("{obstacle:?}"),
    }
}

fn azure() -> Server {
    Server::start(|request| match request.line().as_str() {
        "POST /oauth2/exchange" => answer(200).body(r#"{"refresh_token":"refresh"}"#),
        _ => answer(200).body(r#"{"access_token":"aad"}"#),
    })
}

#[test]
fn acr_exchanges_the_token_of_an_application() {
    for (name, value, proof) in [
        ("AZURE_CLIENT_SECRET", "cs", &[("client_secret", "cs")][..]),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            "/token",
            &[
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", "jwt"),
            ],
        ),
    ] {
        let server = azure();
        let machine =
            Machine::new(&[("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t"), (name, value)])
                .set("AZURE_AUTHORITY_HOST", url(&server))
                .file("/token", "jwt");
        assert_eq!(acr(&machine, &server), "identity refresh");
        let received = server.received();
        assert_eq!(received[0].line(), "POST /t/oauth2/v2.0/token");
        let scope = "https://management.azure.com/.default";
        let usual = [("grant_type", "client_credentials"), ("client_id", "c"), ("scope", scope)];
        check_fields(&received[0], &[&usual, proof].concat());
        check_fields(
            &received[1],
            &[
                ("grant_type", "access_token"),
                ("service", "r.azurecr.io"),
                ("tenant", "t"),
                ("access_token", "aad"),
            ],
        );
    }
}

#[test]
fn acr_exchanges_the_token_of_a_managed_identity() {
    let server = azure();
    let machine = Machine::new(&[("AZURE_CLIENT_ID", "c")]);
    assert_eq!(acr(&machine, &server), "identity refresh");
    let request = &server.received()[0];
    assert_eq!(request.header("metadata"), "true");
    assert_eq!(
        request.target,
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F&client_id=c"
    );

    let server = azure();
    let machine = Machine::new(&[("IDENTITY_HEADER", "h")])
        .set("IDENTITY_ENDPOINT", format!("{}/msi/token", url(&server)));
    assert_eq!(acr(&machine, &server), "identity refresh");
    let request = &server.received()[0];
    assert_eq!(
        (request.line().as_str(), request.header("x-identity-header")),
        ("GET /msi/token", "h")
    );
}

#[test]
fn acr_tries_the_registrys_own_audience_where_the_usual_one_is_turned_off() {
    let server = Server::start(|request| match request.line().as_str() {
        "POST /oauth2/exchange" if fields(request)["access_token"] == "own" => {
            answer(200).body(r#"{"refresh_token":"refresh"}"#)
        }
        "POST /oauth2/exchange" => answer(401).body(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
        _ if request.target.contains("containerregistry.azure.net") => {
            answer(200).body(r#"{"access_token":"own"}"#)
        }
        _ => answer(200).body(r#"{"access_token":"aad"}"#),
    });
    assert_eq!(acr(&Machine::new(&[]), &server), "identity refresh");
}

#[test]
fn kanikos_variables_are_found_with_fewer_labels_too() {
    let machine = Machine::new(&[
        ("KANIKO_MY_REG_EXAMPLE_COM_USER", "own"),
        ("KANIKO_MY_REG_EXAMPLE_COM_PASSWORD", "p"),
    ])
    .set("KANIKO_EXAMPLE_COM_USER", "all")
    .set("KANIKO_EXAMPLE_COM_PASSWORD", "p")
    .set("KANIKO_HALF_IO_USER", "u")
    .set("KANIKO_R_IO_5000_USER", "port")
    .set("KANIKO_R_IO_5000_PASSWORD", "p");
    for (registry, expected) in [
        ("my-reg.example.com", "own p"),
        ("other.example.com", "all p"),
        ("example.com", "all p"),
        ("example.com.evil.example", "not mine"),
        ("evilexample.com", "not mine"),
        ("half.io", "not mine"),
        ("r.io:5000", "port p"),
        ("r.io", "not mine"),
    ] {
        machine.check(Helper::Environment, registry, expected);
    }
}

#[test]
fn a_gitlab_job_has_its_own_registry_only() {
    let machine =
        Machine::new(&[("CI_REGISTRY", "https://Registry.gitlab.com/"), ("CI_REGISTRY_USER", "u")]);
    machine.check(
        Helper::GitLab,
        "registry.gitlab.com",
        "nothing: CI_REGISTRY is set, CI_REGISTRY_USER or CI_REGISTRY_PASSWORD is not",
    );
    let machine = machine.set("CI_REGISTRY_PASSWORD", "p");
    machine.check(Helper::GitLab, "registry.gitlab.com", "u p");
    machine.check(Helper::GitLab, "registry.gitlab.com.evil.example", "not mine");
    Machine::new(&[]).check(Helper::GitLab, "registry.gitlab.com", "not mine");
}

fn find(credentials: &Credentials, registry: &str) -> Found {
    credentials.find(&transport(), Access::Push, registry, "app").expect("no entry is broken")
}

#[test]
fn a_helper_is_asked_after_the_configs_and_only_if_it_is_wanted() {
    let machine = Machine::new(&[("KANIKO_R_IO_USER", "u"), ("KANIKO_R_IO_PASSWORD", "p")])
        .set("KANIKO_S_IO_USER", "u")
        .set("KANIKO_S_IO_PASSWORD", "p");
    let with = |asked: &[Helper]| {
        let config = br#"{"auths":{"s.io":{"username":"file","password":"p"}}}"#;
        let credentials = Credentials::from_docker_config(config).expect("the config is right");
        machine.with(|surroundings| credentials.with_helpers(asked, surroundings, machine.clock()))
    };
    let credentials = with(&Helper::ALL);
    assert_eq!(find(&credentials, "r.io").who, Identity::Helper { helper: Helper::Environment });
    let who = find(&credentials, "s.io").who.to_string();
    assert_eq!(who, "with the credentials of the entry `s.io` of the docker config");
    assert_eq!(find(&with(&[Helper::Google]), "r.io").who.to_string(), "without credentials");
}

#[test]
fn a_config_that_names_a_program_of_kanikos_image_gets_the_built_in_helper() {
    let server = Server::start(|_| ecr_answer());
    let machine = Machine::new(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")])
        .set("AWS_ENDPOINT_URL_ECR", url(&server));
    for config in [
        format!(r#"{{"credHelpers":{{"{ECR}":"ecr-login"}}}}"#),
        r#"{"credsStore":"ecr-login"}"#.to_owned(),
    ] {
        let credentials =
            Credentials::from_docker_config(config.as_bytes()).expect("the config is right");
        let credentials = machine
            .with(|surroundings| credentials.with_helpers(&[], surroundings, machine.clock()));
        let Found { credential, who, .. } = find(&credentials, ECR);
        assert!(credential.is_some(), "{who}");
        let elsewhere = find(&credentials, "r.io");
        assert_eq!(elsewhere.who.to_string(), "without credentials");
    }
}

#[test]
fn the_names_on_the_command_line_are_kanikos() {
    for helper in Helper::ALL {
        assert_eq!(Helper::parse(helper.name()), Some(helper));
    }
    assert_eq!(Helper::parse("x"), None);
    assert_eq!(Helper::ALL.map(Helper::name), ["env", "google", "ecr", "acr", "gitlab"]);
}
