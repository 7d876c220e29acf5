//! The step for Amazon's registry: moto has its repositories and passwords, nginx its name, and `docker-registry` its images.

use serde_json::json;
use testkit::{Nginx, Storage, Tree, issue_for};

use super::Step;
use crate::bench::host;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// An address of this machine whose port for HTTPS nobody else has: the name of the registry has none.
const ADDRESS: &str = "127.0.0.77";

/// The registry under its name, for whom moto has given the password.
fn of_amazon(step: &Step, certificates: &std::path::Path) -> Nginx {
    issue_for(certificates, &[REGISTRY]).unwrap();
    let line = host("htpasswd", &["-nbm", "AWS", "123456789012-auth-token"], certificates);
    std::fs::write(certificates.join("passwords"), line).unwrap();
    let file = |name: &str| certificates.join(name).display().to_string();
    let upstream = step.bench.registry.host();
    Nginx::start(1, |ports| {
        format!(
            "server {{\n listen 127.0.0.1:{};\n listen {ADDRESS}:443 ssl;\n ssl_certificate {};\n ssl_certificate_key {};\n\
             client_max_body_size 0;\n auth_basic x;\n auth_basic_user_file {};\n location / {{ proxy_pass http://{upstream}; \
             proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https; proxy_set_header Authorization ''; }}\n}}\n",
            ports[0],
            file("server.crt"),
            file("server.key"),
            file("passwords"),
        )
    })
    .unwrap()
}

#[test]
fn privileged_a_repository_of_amazon_is_made_with_its_policies_and_pushed_to() {
    let step = Step::new();
    let certificates = testkit::scratch_dir("amazon-").unwrap();
    let nginx = of_amazon(&step, certificates.path());
    let amazon = Storage::ecr().unwrap();
    let lifecycle = json!({"rules": [{
        "rulePriority": 1, "description": "few", "action": {"type": "expire"},
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9},
    }]});
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "pull", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": ["ecr:BatchGetImage"],
    }]});
    step.bench.tree(
        &Tree::new()
            .file("Dockerfile", "FROM busybox\nCOPY lifecycle.json /made\n")
            .file("lifecycle.json", lifecycle.to_string())
            .file("policy.json", policy.to_string()),
    );
    std::fs::copy(certificates.path().join("authority/ca.crt"), step.bench.out("ca.crt")).unwrap();
    let certificate = format!("{REGISTRY}=/addon/ca.crt");
    let (id, secret) = amazon.keys();
    let variables = [
        ("PLUGIN_REGISTRY", REGISTRY),
        ("PLUGIN_REPO", "team/app"),
        ("PLUGIN_TAGS", "1,latest"),
        ("PLUGIN_REGION", "eu-west-1"),
        ("PLUGIN_ACCESS_KEY", id),
        ("PLUGIN_SECRET_KEY", secret),
        ("PLUGIN_CREATE_REPOSITORY", "true"),
        ("PLUGIN_LIFECYCLE_POLICY", "lifecycle.json"),
        ("PLUGIN_REPOSITORY_POLICY", "policy.json"),
        ("PLUGIN_REGISTRY_CERTIFICATE", &certificate),
        ("AWS_ENDPOINT_URL", &amazon.url()),
    ];
    let run = |variables: &[(&str, &str)]| {
        let pod = step.pod(variables).hosts_line(&format!("{ADDRESS} {REGISTRY}"));
        pod.run(["/kaniko/kaniko-ecr"]).unwrap()
    };
    // The second time it is there already.
    for _ in 0..2 {
        let output = run(&variables).assert_success();
        assert!(!output.to_string().contains(secret), "{output}");
        assert!(!output.to_string().contains("auth-token"), "{output}");
    }
    assert_eq!(
        amazon.ecr_repository("team/app").unwrap(),
        json!({"repositories": ["team/app"], "lifecycle": lifecycle, "policy": policy})
    );
    let digest = step.digest("team/app:1");
    assert_eq!(step.digest("team/app:latest"), digest);
    let images =
        ["1", "latest"].map(|tag| json!({"image": format!("team/app:{tag}"), "digest": digest}));
    assert_eq!(
        step.artifact()["data"],
        json!({"registryType": "ECR", "registryUrl": REGISTRY, "images": images})
    );
    assert!(
        nginx
            .requests()
            .iter()
            .any(|line| line.starts_with("443 PUT /v2/team/app/manifests/1 201 Basic "))
    );

    let wrong =
        [&variables[..], &[("PLUGIN_SECRET_KEY", "n0t-the-key"), ("PLUGIN_TAGS", "2")]].concat();
    let output = run(&wrong);
    assert_eq!(output.code, 1, "{output}");
    let expected = format!("cannot prepare the repository `team/app` in `{REGISTRY}`");
    assert!(output.stderr.contains(&expected), "{output}");
    assert!(!output.to_string().contains("n0t-the-key"), "{output}");
    assert_eq!(step.bench.registry.tags("team/app").unwrap(), ["1", "latest"]);
}
