//! The guide's pods that are somebody to a cloud, with what the cloud's webhook adds to them.
//!
//! The services have their real names, which lead to an nginx on loopback; behind it are moto, a registry, and fixed answers. What
//! was tested against what is told on the page.

use serde_json::{Value, json};
use testkit::{
    Certificate, Cluster, ImageStandIn, Nginx, PodOutput, Storage, certificate, kubernetes_errors,
    yaml,
};

use crate::bench::Bench;
use crate::deployment::{IMAGE, blocks};

/// What the webhook adds to a pod.
struct Admission {
    variables: Vec<(&'static str, String)>,
    /// The name of the volume, where it is mounted, whom the token is for, and the token's file.
    token: Option<[&'static str; 4]>,
}

impl Admission {
    /// Does it to the Job of a manifest.
    fn admit(&self, manifest: &str) -> String {
        let mut documents = yaml(manifest).unwrap();
        let job = documents.iter_mut().find(|document| document["kind"] == "Job").unwrap();
        let pod = &mut job["spec"]["template"]["spec"];
        let variables =
            self.variables.iter().map(|(name, value)| json!({"name": name, "value": value}));
        pod["containers"][0]["env"] = variables.collect();
        if let Some([volume, directory, audience, file]) = self.token {
            let mount = json!({"name": volume, "mountPath": directory, "readOnly": true});
            push(&mut pod["containers"][0]["volumeMounts"], mount);
            let token = json!({"audience": audience, "expirationSeconds": 86400, "path": file});
            let sources = json!([{"serviceAccountToken": token}]);
            push(&mut pod["volumes"], json!({"name": volume, "projected": {"sources": sources}}));
        }
        let named: Vec<(String, Value)> = documents
            .iter()
            .enumerate()
            .map(|(number, document)| (number.to_string(), document.clone()))
            .collect();
        assert_eq!(kubernetes_errors(&named).unwrap(), "");
        documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    }
}

fn push(list: &mut Value, element: Value) {
    list.as_array_mut().unwrap().push(element);
}

/// A cloud: servers with these names, in front of a registry.
struct Cloud {
    bench: Bench,
    names: Vec<&'static str>,
    address: String,
    certificate: Certificate,
    dir: tempfile::TempDir,
    nginx: Option<Nginx>,
}

impl Cloud {
    fn new(names: &[&'static str]) -> Self {
        let dir = testkit::scratch_dir("cloud-").unwrap();
        // Port 443 of an address of loopback that no other process takes.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = format!("127.77.{high}.{low}");
        let certificate = certificate(dir.path(), names).unwrap();
        let names = names.to_vec();
        Self { bench: Bench::new(), names, address, certificate, dir, nginx: None }
    }

    /// Starts the servers. `places` gets the port of a server without TLS and makes, for a name, what its server does; the name
    /// `plain` is that server.
    fn start(&mut self, places: impl Fn(u16, &str) -> String) {
        let forms = self.dir.path().join("forms");
        let (chain, key) = (self.certificate.chain.display(), self.certificate.key.display());
        let nginx = Nginx::start(1, |ports| {
            let port = ports[0];
            let servers = self.names.iter().map(|name| {
                format!(
                    "server {{ listen {}:443 ssl; server_name {name}; ssl_certificate {chain}; ssl_certificate_key {key};\n\
                     client_max_body_size 0; access_log {} form;\n{} }}\n",
                    self.address, forms.display(), places(port, name)
                )
            });
            let servers: String = servers.collect();
            format!(
                "log_format form '$host $request_uri $request_body';\n\
                 server {{ listen 127.0.0.1:{port};\n{} }}\n{servers}",
                places(port, "plain")
            )
        });
        self.nginx = Some(nginx.unwrap());
    }

    /// The registry, for those who show this.
    fn registry(&self, authorization: &str, challenge: &str) -> String {
        format!(
            "location /v2/ {{ if ($http_authorization != '{authorization}') {{ return 401; }}\n\
             proxy_pass http://{}; proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https; \
             proxy_set_header Authorization ''; }}\n\
             error_page 401 = @login; location @login {{ add_header WWW-Authenticate '{challenge}' always; return 401; }}\n",
            self.bench.registry.host()
        )
    }

    /// Runs the block of the page with this number.
    fn run(&self, block: usize, admission: &Admission) -> PodOutput {
        let names = format!("{}\t{}", self.address, self.names.join(" "));
        let pod = self
            .bench
            .executor
            .pod()
            .hosts_line(&names)
            .bind_read_only(&self.certificate.authority, "/kaniko/ssl/certs/test.crt")
            .env("KANIKO_REGISTRY_MIRROR", &self.bench.registry.host());
        let image = ImageStandIn { pod, entrypoint: vec!["/kaniko/executor".to_owned()] };
        let manifest = blocks("identities.md")[block].replace(IMAGE, "executor");
        let cluster = Cluster::new().image("executor", image);
        cluster.run(&admission.admit(&manifest)).unwrap().pop().unwrap()
    }

    /// That of the server without TLS.
    fn port(&self) -> String {
        let host = self.nginx.as_ref().unwrap().host(0);
        host.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// What was sent to services: `HOST PATH BODY`.
    fn forms(&self) -> String {
        // Everything has been written once a later request has been answered.
        drop(self.nginx.as_ref().unwrap().requests());
        std::fs::read_to_string(self.dir.path().join("forms")).unwrap()
    }

    /// That the image is in the registry, which nobody can reach without the token.
    #[track_caller]
    fn assert_pushed(&self, name: &str) {
        self.bench.registry.image(name).unwrap();
    }
}

fn base64(text: &str) -> String {
    let dir = testkit::scratch_dir("base64-").unwrap();
    std::fs::write(dir.path().join("text"), text).unwrap();
    crate::bench::host("base64", &["-w0", "text"], dir.path())
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const AMAZON: [&str; 3] = [ECR, "api.ecr.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"];

fn region() -> [(&'static str, String); 3] {
    [
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("AWS_DEFAULT_REGION", "eu-west-1".to_owned()),
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional".to_owned()),
    ]
}

/// Amazon's services as moto has them, and the agent of the node, which answers who shows the pod's token.
fn amazon() -> (Cloud, Storage) {
    let moto = Storage::aws().unwrap();
    let mut cloud = Cloud::new(&AMAZON);
    let login = format!("Basic {}", base64("AWS:123456789012-auth-token"));
    let registry = cloud.registry(&login, "Basic realm=\"ecr\"");
    cloud.start(|_, name| match name {
        ECR => registry.clone(),
        "plain" => "location = /v1/credentials { default_type application/json;\n\
             if ($http_authorization != 'a-token-for-pods.eks.amazonaws.com') { return 401; }\n\
             return 200 '{\"AccessKeyId\": \"ASIAPOD\", \"SecretAccessKey\": \"secret\", \"Token\": \"session\", \
             \"AccountId\": \"123456789012\", \"Expiration\": \"2099-01-01T00:00:00Z\"}'; }\n"
            .to_owned(),
        _ => format!("location / {{ proxy_pass {}; proxy_set_header Host $host; }}\n", moto.url()),
    });
    (cloud, moto)
}

#[test]
fn privileged_a_role_for_the_service_account_pushes_to_amazon() {
    let (cloud, _moto) = amazon();
    let directory = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
    let role = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/builder".to_owned());
    let token = ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{directory}/token"));
    let admission = Admission {
        variables: [&region()[..], &[role, token]].concat(),
        token: Some(["aws-iam-token", directory, "sts.amazonaws.com", "token"]),
    };
    cloud.run(0, &admission).assert_success();
    cloud.assert_pushed("team/app:1");
    let forms = cloud.forms();
    let sts = forms.lines().find(|line| line.starts_with("sts.")).unwrap();
    for field in [
        "Action=AssumeRoleWithWebIdentity",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbuilder",
        "WebIdentityToken=a-token-for-sts.amazonaws.com",
    ] {
        assert!(sts.contains(field), "{field} is missing\n{forms}");
    }
}

#[test]
fn privileged_the_identity_of_a_pod_pushes_to_amazon() {
    let (cloud, _moto) = amazon();
    let agent = format!("http://127.0.0.1:{}/v1/credentials", cloud.port());
    let directory = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
    let file = "eks-pod-identity-token";
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", format!("{directory}/{file}")),
    ];
    let variables = [&region()[..], &variables].concat();
    let admission = |audience| Admission {
        variables: variables.clone(),
        token: Some(["eks-pod-identity-token", directory, audience, file]),
    };
    let refused = cloud.run(1, &admission("somebody.example"));
    assert!(refused.code == 1 && refused.stderr.contains("401"), "{refused}");
    cloud.run(1, &admission("pods.eks.amazonaws.com")).assert_success();
    cloud.assert_pushed("team/app:1");
}

#[test]
fn privileged_a_workload_pushes_to_google() {
    let mut cloud = Cloud::new(&["europe-docker.pkg.dev"]);
    let login = format!("Basic {}", base64("oauth2accesstoken:ya29.pod"));
    let registry = cloud.registry(&login, "Basic realm=\"google\"");
    cloud.start(|_, name| match name {
        "plain" => "location = /computeMetadata/v1/instance/service-accounts/default/token { default_type application/json;\n\
             if ($http_metadata_flavor != 'Google') { return 403; }\n\
             return 200 '{\"access_token\": \"ya29.pod\", \"expires_in\": 3599, \"token_type\": \"Bearer\"}'; }\n"
            .to_owned(),
        _ => registry.clone(),
    });
    let host = ("GCE_METADATA_HOST", format!("127.0.0.1:{}", cloud.port()));
    cloud.run(2, &Admission { variables: vec![host], token: None }).assert_success();
    cloud.assert_pushed("project/team/app:1");
}

#[test]
fn privileged_a_workload_pushes_to_azure() {
    let mut cloud = Cloud::new(&["team.azurecr.io", "login.microsoftonline.com"]);
    let challenge =
        "Bearer realm=\"https://team.azurecr.io/oauth2/token\",service=\"team.azurecr.io\"";
    let registry = cloud.registry("Bearer access", challenge);
    let answer = |path: &str, port: u16, field: &str| {
        format!("location = {path} {{ proxy_pass http://127.0.0.1:{port}/{field}; }}\n")
    };
    cloud.start(|port, name| match name {
        "plain" => ["aad", "refresh", "access"]
            .map(|token| {
                let field = if token == "refresh" { "refresh_token" } else { "access_token" };
                format!(
                    "location = /{token} {{ default_type application/json; return 200 '{{\"{field}\": \"{token}\"}}'; }}\n"
                )
            })
            .concat(),
        "team.azurecr.io" => {
            registry.clone()
                + &answer("/oauth2/exchange", port, "refresh")
                + &answer("/oauth2/token", port, "access")
        }
        _ => answer("/22222222-2222-2222-2222-222222222222/oauth2/v2.0/token", port, "aad"),
    });
    let directory = "/var/run/secrets/azure/tokens";
    let file = "azure-identity-token";
    let admission = Admission {
        variables: vec![
            ("AZURE_CLIENT_ID", "11111111-1111-1111-1111-111111111111".to_owned()),
            ("AZURE_TENANT_ID", "22222222-2222-2222-2222-222222222222".to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", format!("{directory}/{file}")),
            ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/".to_owned()),
        ],
        token: Some(["azure-identity-token", directory, "api://AzureADTokenExchange", file]),
    };
    cloud.run(3, &admission).assert_success();
    cloud.assert_pushed("app:1");
    let forms = cloud.forms();
    for (start, fields) in [
        (
            "login.microsoftonline.com ",
            &[
                "client_id=11111111-1111-1111-1111-111111111111",
                "client_assertion=a-token-for-api%3A%2F%2FAzureADTokenExchange",
            ][..],
        ),
        ("team.azurecr.io /oauth2/exchange ", &["access_token=aad", "service=team.azurecr.io"]),
        ("team.azurecr.io /oauth2/token ", &["refresh_token=refresh"]),
    ] {
        let line = forms.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        for field in fields {
            assert!(line.contains(field), "{field} is missing from `{line}`\n{forms}");
        }
    }
}
