//! Whom a registry sees when the step comes.

use serde_json::json;
use testkit::base::busybox;
use testkit::{Auth, Nginx, Registry};

use super::Step;
use crate::bench::{Bench, host};

#[test]
fn privileged_a_registry_with_tokens_gets_the_login_and_nobody_else_sees_it() {
    let auth = Auth::Token { user: "joe", password: "pass:word" };
    let registry = Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap();
    let step = Step::with(Bench::with_registry(registry));
    // The command waits until this test has looked.
    let dockerfile = "FROM busybox\nRUN touch /harness/running; while [ ! -e /harness/seen ]; do sleep 0.1; done; \
                      cat /proc/1/environ 2>/dev/null | tr -d '\\0' | grep -q . && exit 7; env > /environment\n";
    step.bench.write("Dockerfile", dockerfile);
    step.bench.write(".dockerignore", "*\n");
    let repository = step.bench.registry.reference("ns/img");
    let connector = format!("http://{}/other", step.bench.registry.host());
    let variables = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &connector),
        ("PLUGIN_USERNAME", "joe"),
        ("PLUGIN_PASSWORD", "pass:word"),
        ("PLUGIN_TAGS", "1,2,latest"),
    ];
    let target = format!("--custom-labels=test={repository}");
    let pod = step.pod(&variables).spawn(["/kaniko/kaniko-docker", &target]).unwrap();
    step.wait_for("running");
    // Root of the machine may read the environment of every process; there is none.
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        if String::from_utf8_lossy(&read("cmdline")).contains(&target) {
            let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if program.ends_with("runc") {
                continue;
            }
            count += 1;
            let environment = read("environ");
            assert!(
                environment.iter().all(|byte| *byte == 0),
                "{}",
                String::from_utf8_lossy(&environment)
            );
        }
    }
    assert!(count > 0, "the step was not found among the processes");
    std::fs::write(step.bench.context().join("seen"), "").unwrap();
    let (output, config) =
        pod.wait_and_inspect(|root| root.join("kaniko/.docker/config.json").exists()).unwrap();
    let output = output.assert_success();
    assert!(!config, "a login is a file\n{output}");
    assert!(!output.to_string().contains("pass:word"), "{output}");
    let digest = step.digest("ns/img:1");
    assert_eq!(step.bench.read("output.env"), format!("digest=\"{digest}\"\n"));
    let by_tag = step.bench.registry.image("ns/img:1").unwrap().manifest;
    assert_eq!(step.bench.registry.image(&format!("ns/img@{digest}")).unwrap().manifest, by_tag);
    assert_eq!([step.digest("ns/img:2"), step.digest("ns/img:latest")], [digest.clone(), digest]);
    let puts = step.bench.registry.requests();
    let count = |what: &str| {
        puts.iter().filter(|line| line.starts_with("PUT ") && line.contains(what)).count()
    };
    assert_eq!(count("/manifests/"), 3, "{puts:#?}");
    assert_eq!(count("/blobs/uploads/"), 2, "layer and config once each: {puts:#?}");

    // A later stage pulls it.
    step.bench.write("Dockerfile", &format!("FROM {repository}:2\nRUN test -e /environment\n"));
    step.run("kaniko-docker", &[&variables[1..], &[("PLUGIN_NO_PUSH", "true")]].concat())
        .assert_success();
}

/// What stands before the registry of the step and writes down whom it sees.
fn seen_by_nginx(step: &Step, places: &str) -> Nginx {
    let upstream = step.bench.registry.host();
    Nginx::start(1, |ports| {
        format!(
            "server {{\n listen 127.0.0.1:{};\n client_max_body_size 0;\n proxy_set_header Host $http_host;\n{}}}\n",
            ports[0],
            places.replace("UPSTREAM", &upstream)
        )
    })
    .unwrap()
}

#[test]
fn privileged_a_password_goes_to_the_token_service_and_a_refusal_names_what_was_used() {
    let auth = Auth::Token { user: "joe", password: "pass:word" };
    let step = Step::with(Bench::with_registry(Registry::builder().auth(auth).start().unwrap()));
    let nginx = seen_by_nginx(&step, "location / { proxy_pass http://UPSTREAM; }\n");
    step.bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let host = nginx.host(0);
    let repository = format!("{host}/namespace/img");
    let connector = format!("http://{host}/NAMESPACE");
    let variables = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &connector),
        ("PLUGIN_USERNAME", "joe"),
        ("PLUGIN_PASSWORD", "pass:word"),
        ("PLUGIN_TAGS", "42"),
        ("PLUGIN_INSECURE_REGISTRY", &host),
    ];
    step.run("kaniko-docker", &variables).assert_success();
    let digest = step.digest("namespace/img:42");
    let image = json!([{"image": format!("{repository}:42"), "digest": digest}]);
    assert_eq!(step.artifact()["data"]["images"], image);
    assert_eq!(step.artifact()["data"]["registryUrl"], json!(connector));
    let requests = nginx.requests();
    assert!(requests.iter().any(|line| line.contains(" Bearer ")), "{requests:#?}");
    assert!(!requests.iter().any(|line| line.contains("Basic")), "{requests:#?}");
    let asked = step.bench.registry.token_requests();
    let scope = |line: &&String| {
        line.starts_with("user ") && line.contains("namespace") && line.contains("push")
    };
    assert!(asked.iter().any(|line| scope(&line)), "{asked:#?}");

    let wrong = [&variables[..], &[("PLUGIN_PASSWORD", "not-the-password")]].concat();
    let output = step.run("kaniko-docker", &wrong);
    assert_eq!(output.code, 1, "{output}");
    let expected = "error checking push permissions -- make sure you entered the correct tag name, and that you are \
                    authenticated correctly, and try again: ";
    // The login of a path is also for the rest of the registry.
    let entry = format!("the credentials of the entry `{host}` of ");
    for expected in [expected, &host, "namespace/img", &entry] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
    assert!(output.stderr.ends_with("exit status 1\n"), "{output}");
    assert!(!output.to_string().contains("not-the-password"), "{output}");
}

#[test]
fn privileged_one_address_with_two_users_has_one_for_pulls_and_one_for_pushes() {
    let step = Step::new();
    let passwords = testkit::scratch_dir("passwords-").unwrap();
    for (name, password) in [("puller", "a-secret"), ("pusher", "b-secret")] {
        let line = host("htpasswd", &["-nbm", name, password], passwords.path());
        std::fs::write(passwords.path().join(name), line).unwrap();
    }
    let file = |name: &str| passwords.path().join(name).display().to_string();
    let place = |path: &str, file: &str| {
        format!(
            "location {path} {{ auth_basic x; auth_basic_user_file {file}; proxy_pass http://UPSTREAM; \
             proxy_set_header Host $http_host; proxy_set_header Authorization ''; }}\n"
        )
    };
    let places =
        [place("/v2/library/", &file("puller")), place("/v2/team/", &file("pusher"))].concat();
    let ping =
        "location = /v2/ { add_header Www-Authenticate 'Basic realm=\"x\"' always; return 401; }\n";
    let nginx = seen_by_nginx(&step, &format!("{places}{ping}"));
    let host = nginx.host(0);
    let repository = format!("{host}/team/app");
    let connector = format!("http://{host}/team");
    step.bench.write("Dockerfile", &format!("FROM {host}/library/busybox\nCOPY Dockerfile /\n"));
    let variables = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &connector),
        ("PLUGIN_USERNAME", "pusher"),
        ("PLUGIN_PASSWORD", "b-secret"),
        ("PLUGIN_BASE_IMAGE_REGISTRY", &connector),
        ("PLUGIN_BASE_IMAGE_USERNAME", "puller"),
        ("PLUGIN_BASE_IMAGE_PASSWORD", "a-secret"),
        ("PLUGIN_INSECURE_REGISTRY", &host),
    ];
    for tag in ["1", "2", "3"] {
        let output = step.run("kaniko-docker", &[&variables[..], &[("PLUGIN_TAGS", tag)]].concat());
        output.assert_success();
    }
    assert_eq!(step.bench.registry.tags("team/app").unwrap(), ["1", "2", "3"]);
}

#[test]
fn privileged_a_registry_with_an_unknown_certificate_is_used_if_that_is_wanted() {
    let registry = Registry::builder().tls().start().unwrap();
    let authority = registry.certificate_authority().unwrap();
    let step = Step::with(Bench::with_registry(registry));
    step.bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    std::fs::copy(authority, step.bench.out("ca.crt")).unwrap();
    let host = step.bench.registry.host();
    let repository = format!("{host}/team/app");
    let certificate = format!("{host}=/addon/ca.crt");
    let trusted = step.bench.out("certs");
    std::fs::create_dir(&trusted).unwrap();
    std::fs::copy(step.bench.out("ca.crt"), trusted.join("additional-ca-cert-bundle.crt")).unwrap();
    for (number, (name, variables, works)) in [
        ("kaniko-docker", &[][..], false),
        ("kaniko-docker", &[("PLUGIN_SKIP_TLS_VERIFY", "true")], true),
        ("kaniko-gar", &[("PLUGIN_SKIP_TLS_VERIFY", "true")], true),
        ("kaniko-docker", &[("PLUGIN_SKIP_TLS_VERIFY_REGISTRY", "true")], true),
        ("kaniko-docker", &[("PLUGIN_REGISTRY_CERTIFICATE", certificate.as_str())], true),
        ("kaniko-docker", &[("SSL_CERT_DIR", "/certs")], true),
    ]
    .into_iter()
    .enumerate()
    {
        let tag = number.to_string();
        let repository = if name == "kaniko-gar" { "team/app" } else { &repository };
        let own = [
            ("PLUGIN_REPO", repository),
            ("PLUGIN_REGISTRY", &host),
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "p"),
            ("PLUGIN_TAGS", &tag),
            ("PLUGIN_INSECURE_REGISTRY", ""),
            ("PLUGIN_REGISTRY_MIRRORS", ""),
        ];
        let pod = step.pod(&[&own[..], variables].concat()).bind_read_only(&trusted, "/certs");
        let output = pod.run([format!("/kaniko/{name}")]).unwrap();
        assert_eq!(output.code == 0, works, "{name} {variables:?}\n{output}");
        if !works {
            assert!(output.stderr.contains("certificate"), "{output}");
        }
    }
    assert_eq!(step.bench.registry.tags("team/app").unwrap(), ["1", "2", "3", "4", "5"]);
}
