//! The certificate of an application, and the portal's page about a registry.

#![expect(clippy::disallowed_methods, reason = "OpenSSL is the judge, and reads files")]

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::command::capture_text;

use super::*;

/// A machine that is the application `c` of the directory `t`, whose tokens `server` gives.
fn application(server: &Server) -> Machine {
    Machine::new(&[("AZURE_CLIENT_ID", "c"), ("AZURE_TENANT_ID", "t")])
        .set("AZURE_AUTHORITY_HOST", url(server))
}

fn openssl(arguments: &[&str], dir: &Path) -> String {
    let mut openssl = Command::new("openssl");
    capture_text(openssl.args(arguments).current_dir(dir)).expect("openssl agrees")
}

#[test]
fn an_application_with_a_certificate_signs_an_assertion() {
    let pem = testkit::self_signed().expect("openssl makes one");
    let other = testkit::self_signed().expect("openssl makes one");
    // A certificate that is not the key's may come first.
    let (_, foreign) = other.split_at(other.find("-----BEGIN CERTIFICATE").expect("it has one"));
    for (variable, text, chain) in [
        ("", pem.clone(), 0),
        ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", format!("{foreign}{pem}"), 2),
    ] {
        let server = azure();
        let machine = application(&server)
            .set("AZURE_CLIENT_CERTIFICATE_PATH", "/certificate.pem")
            .set(variable, "true")
            .file("/certificate.pem", text);
        assert_eq!(acr(&machine, &server), "identity refresh");
        let received = server.received();
        assert_eq!(received[0].line(), "POST /t/oauth2/v2.0/token");
        let assertion = fields(&received[0])["client_assertion"].clone();
        check_fields(
            &received[0],
            &[
                ("grant_type", "client_credentials"),
                ("client_id", "c"),
                ("scope", "https://management.azure.com/.default"),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", &assertion),
            ],
        );
        let parts: Vec<&str> = assertion.split('.').collect();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("it is base64");
        let parse =
            |part: &str| -> Value { serde_json::from_slice(&decode(part)).expect("it is JSON") };
        let (header, claims) = (parse(parts[0]), parse(parts[1]));

        // OpenSSL is the judge of the signature and of the certificate's name.
        let dir = tempfile::tempdir().expect("there is a place for files");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).expect("a file can be written");
        };
        write("pem", pem.as_bytes());
        write("signed", format!("{}.{}", parts[0], parts[1]).as_bytes());
        write("signature", &decode(parts[2]));
        let public = openssl(&["x509", "-in", "pem", "-pubkey", "-noout"], dir.path());
        write("public", public.as_bytes());
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        let verify = ["dgst", "-sha256", "-verify", "public", "-signature", "signature"];
        let verdict = openssl(&[&verify[..], &pss, &["signed"]].concat(), dir.path());
        assert_eq!(verdict, "Verified OK\n");
        let print =
            openssl(&["x509", "-in", "pem", "-noout", "-fingerprint", "-sha256"], dir.path());
        let hex = print.trim().rsplit('=').next().expect("it has a value");
        let thumbprint = decode(header["x5t#S256"].as_str().expect("it is text"));
        let thumbprint: Vec<String> = thumbprint.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(thumbprint.join(":"), hex);

        assert_eq!((&header["alg"], &header["typ"]), (&json!("PS256"), &json!("JWT")));
        assert_eq!(header["x5c"].as_array().map_or(0, Vec::len), chain);
        let audience = format!("{}/t/oauth2/v2.0/token", url(&server));
        for (name, expected) in [
            ("aud", json!(audience)),
            ("iss", json!("c")),
            ("sub", json!("c")),
            ("nbf", json!(NOW)),
            ("exp", json!(NOW + 600)),
        ] {
            assert_eq!(claims[name], expected, "{name}");
        }
        assert_eq!(claims["jti"].as_str().map(str::len), Some(36));
    }
}

#[test]
fn a_certificate_that_cannot_be_used_says_why_and_quotes_nothing() {
    let server = azure();
    let machine = application(&server).set("AZURE_CLIENT_CERTIFICATE_PATH", "/certificate.pem");
    let why = acr(&machine.clone().file("/certificate.pem", "s3cret"), &server);
    let expected = "the certificate in `/certificate.pem` has no private key in PEM format";
    assert_eq!(why, format!("Failed({expected:?})"));
    let one = testkit::self_signed().expect("openssl makes one");
    let other = testkit::self_signed().expect("openssl makes one");
    let (key, _) = one.split_at(one.find("-----BEGIN CERTIFICATE").expect("it has one"));
    let (_, foreign) = other.split_at(other.find("-----BEGIN CERTIFICATE").expect("it has one"));
    let why = acr(&machine.file("/certificate.pem", format!("{key}{foreign}")), &server);
    assert!(why.contains("has no certificate for its private key"), "{why}");
    assert_eq!(server.received().len(), 0);
}

/// The page about `registry` in the subscription `sub/1`; the resource manager is on `server`, too.
fn portal(server: &Server, registry: &str) -> Result<String, Obstacle> {
    let machine = application(server).set("AZURE_CLIENT_SECRET", "cs");
    let mut acr = machine.with(Acr::read);
    acr.manager = url(server).parse().ok();
    acr.portal(&Http::new(&transport()), registry, "sub/1", NOW)
}

#[test]
fn the_portal_has_a_page_about_a_registry_that_the_resource_manager_knows() {
    let id =
        "/subscriptions/s/resourceGroups/a (b)/providers/Microsoft.ContainerRegistry/registries/r";
    let pages = AtomicU64::new(0);
    let own = std::sync::OnceLock::<String>::new();
    let own = Arc::new(own);
    let host = Arc::clone(&own);
    let server = Server::start(move |request| match request.line().as_str() {
        "POST /t/oauth2/v2.0/token" => answer(200).body(r#"{"access_token":"aad"}"#),
        _ if pages.fetch_add(1, Ordering::SeqCst) == 0 => {
            let next = format!("{}/more?page=2", host.get().expect("it has started"));
            answer(200).body(json!({"value": [], "nextLink": next}).to_string())
        }
        _ => answer(200).body(json!({"value": [{"id": id}, {"id": "another"}]}).to_string()),
    });
    own.set(url(&server)).expect("it is set once");
    // As Go's `url.QueryEscape` writes it.
    let expected = "https://portal.azure.com/#view/Microsoft_Azure_ContainerRegistries/TagMetadataBlade/registryId/\
                    %2Fsubscriptions%2Fs%2FresourceGroups%2Fa+%28b%29%2Fproviders%2FMicrosoft.ContainerRegistry%2Fregistries%2Fr";
    assert_eq!(portal(&server, "r.azurecr.io"), Ok(expected.to_owned()));
    let received = server.received();
    assert_eq!(received.len(), 3);
    let first =
        ebiko_transport::Url::parse(&format!("http://x{}", received[1].target)).expect("a URL");
    assert_eq!(first.path(), "/subscriptions/sub%2F1/resources");
    let query: BTreeMap<_, _> = first.query_pairs().into_owned().collect();
    let filter = "resourceType eq 'Microsoft.ContainerRegistry/registries' and name eq 'r'";
    let expected = [("$filter", filter), ("$select", "id"), ("api-version", "2021-04-01")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(query, BTreeMap::from(expected));
    assert_eq!(received[2].target, "/more?page=2");
    for request in &received[1..] {
        assert_eq!(request.header("authorization"), "Bearer aad");
    }
}

#[test]
fn a_page_of_the_portal_that_is_not_found_says_why() {
    for (body, registry, expected) in [
        (json!({"value": []}), "r.azurecr.io", "the subscription `sub/1` has no registry `r`"),
        (
            json!({"value": [], "nextLink": "https://evil.example/"}),
            "r.azurecr.io",
            "Azure's resource manager goes on somewhere else",
        ),
        (json!({}), "r.azurecr.io.evil.example", "it is no registry of Azure's"),
    ] {
        let text = body.to_string();
        let server = Server::start(move |request| match request.line().as_str() {
            "POST /t/oauth2/v2.0/token" => answer(200).body(r#"{"access_token":"aad"}"#),
            _ => answer(200).body(text.clone()),
        });
        assert_eq!(portal(&server, registry), Err(Obstacle::Failed(expected.into())));
    }
}
