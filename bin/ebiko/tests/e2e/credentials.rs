//! Logins, credential programs and what is said when there is none. Most only ask questions, for which no root is needed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testkit::base::busybox;
use testkit::{Auth, Nginx, Output, Registry, Sandbox};

use crate::bench::{Bench, host};

fn registry() -> Registry {
    let auth = Auth::Basic { user: "joe", password: "pass:word" };
    Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap()
}

fn sandbox() -> Sandbox {
    // Nobody looks for a cloud here.
    let sandbox =
        Sandbox::new(env!("CARGO_BIN_EXE_ebiko")).env("AWS_EC2_METADATA_DISABLED", "true");
    sandbox.env("EBIKO_TEST_SECRET", "s3cret")
}

/// What a build on the registry's busybox would do.
fn plan(sandbox: &Sandbox, registry: &Registry, flags: &[&str]) -> Output {
    let from = registry.reference(&busybox().unwrap().repository());
    sandbox.write("Dockerfile", format!("FROM {from}\nENV A=1\n"));
    sandbox.ebiko([&["--context=.", "--no-push", "--dryrun"], flags].concat())
}

/// A program that is only there for this test.
fn program(sandbox: &Sandbox, name: &str, script: &str) {
    let name = format!("bin/docker-credential-{name}");
    sandbox.write(&name, format!("#!/bin/sh\n{script}\n"));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sandbox.path(&name), mode).unwrap();
}

fn with_programs(sandbox: Sandbox) -> Sandbox {
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    sandbox.env("PATH", path)
}

#[test]
fn who_has_logged_in_may_pull_and_the_secret_is_nowhere() {
    let (registry, sandbox) = (registry(), sandbox());
    let denied = plan(&sandbox, &registry, &[]);
    assert_eq!(denied.code, 1, "{denied}");
    let expected =
        format!("`{}` denies pulling `library/busybox` without credentials", registry.host());
    assert!(denied.stderr.contains(&expected), "{denied}");

    let host = registry.host();
    let login = |password| {
        sandbox.ebiko(["login", &host, "--username=joe", &format!("--password={password}")])
    };
    let output = login("wr0ng").assert_success();
    assert!(output.stderr.contains(".docker/config.json"), "{output}");
    let wrong = plan(&sandbox, &registry, &[]);
    let expected = format!(
        "with the credentials of the entry `{host}` of `{}/.docker/config.json`",
        sandbox.home().display()
    );
    let expected = expected.replace(&sandbox.home().display().to_string(), "[SANDBOX]/home");
    assert!(wrong.stderr.contains(&expected) && !wrong.stderr.contains("wr0ng"), "{wrong}");

    drop(login("pass:word").assert_success());
    drop(plan(&sandbox, &registry, &[]).assert_success());
}

#[test]
fn a_program_beside_or_in_path_is_asked_with_little_of_the_environment() {
    let registry = registry();
    let sandbox = with_programs(sandbox());
    let host = registry.host();
    let script = "test -z \"$EBIKO_TEST_SECRET\" || exit 1\nread -r server || :\n\
                  test \"$1 $server\" = \"get HOST\" || exit 1\n\
                  echo '{\"ServerURL\":\"x\",\"Username\":\"joe\",\"Secret\":\"pass:word\"}'";
    program(&sandbox, "test", &script.replace("HOST", &host));
    let config = format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#);
    sandbox.write("config/config.json", &config);
    let sandbox = sandbox.env("DOCKER_CONFIG", "config");
    drop(plan(&sandbox, &registry, &[]).assert_success());

    program(&sandbox, "test", "echo no luck today; exit 1");
    let output = plan(&sandbox, &registry, &[]);
    let warning = format!(
        "`docker-credential-test` has no credentials for `{host}`: it failed: no luck today"
    );
    assert!(output.stderr.contains(&warning), "{output}");
    let denial = "without credentials (`docker-credential-test` failed: no luck today)";
    assert!(output.code == 1 && output.stderr.contains(denial), "{output}");
}

#[test]
fn a_config_for_pulling_comes_before_the_other() {
    let (registry, sandbox) = (registry(), sandbox());
    let host = registry.host();
    sandbox.write("pull.json", registry.docker_config());
    let other = format!(r#"{{"auths":{{"{host}":{{"username":"pusher","password":"other"}}}}}}"#);
    let sandbox = sandbox.env("DOCKER_AUTH_CONFIG", other);
    assert_eq!(plan(&sandbox, &registry, &[]).code, 1);
    drop(plan(&sandbox, &registry, &["--pull-docker-config=pull.json"]).assert_success());
    let sandbox = sandbox.env("EBIKO_PULL_DOCKER_CONFIG", "pull.json");
    drop(plan(&sandbox, &registry, &[]).assert_success());
}

#[test]
fn a_helper_in_variables_can_be_turned_off_and_an_unknown_one_is_a_warning() {
    let (registry, sandbox) = (registry(), sandbox());
    let name = registry.host().to_uppercase().replace(':', "_");
    let sandbox = sandbox
        .env(format!("KANIKO_{name}_USER"), "joe")
        .env(format!("KANIKO_{name}_PASSWORD"), "pass:word");
    drop(plan(&sandbox, &registry, &[]).assert_success());
    assert_eq!(plan(&sandbox, &registry, &["--credential-helpers="]).code, 1);
    let output =
        plan(&sandbox, &registry, &["--credential-helpers=none", "--credential-helpers=env"]);
    let output = output.assert_success();
    assert!(output.stderr.contains("`--credential-helpers=none` is unknown"), "{output}");
}

/// The busybox beside the executor is the shell of a program that a RUN overwrites.
#[test]
fn privileged_in_a_pod_a_program_is_asked_before_the_build_and_never_afterwards() {
    let bench = Bench::with_registry(registry());
    let host = bench.registry.host();
    let script = "#!/kaniko/busybox sh\n/kaniko/busybox echo \"$1\" >> /out/asked\n\
                  /kaniko/busybox echo '{\"Username\":\"joe\",\"Secret\":\"pass:word\"}'\n";
    let config = format!(r#"{{"credHelpers":{{"{host}":"test"}}}}"#);
    let kaniko = bench.executor.root().join("kaniko");
    std::fs::create_dir(kaniko.join(".docker")).unwrap();
    std::fs::write(kaniko.join(".docker/config.json"), config).unwrap();
    std::fs::copy("/bin/busybox", kaniko.join("busybox")).unwrap();
    let program = kaniko.join("docker-credential-test");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let destination = format!("--destination={}", bench.registry.reference("team/app:1"));
    let dockerfile = "FROM busybox\n\
                      RUN for name in test evil; do echo 'echo evil >> /out/asked' > /kaniko/docker-credential-$name || true; done\n\
                      RUN echo 1 > /1\n";
    bench.build(dockerfile, &[&destination]).assert_success();
    assert_eq!(bench.read("asked"), "get\n", "once, before the RUN");
    bench.registry.image("team/app:1").unwrap();
}

/// A registry in which two teams whose names begin alike have a password each, as nginx makes one of an open one.
fn of_two_teams(upstream: &str, passwords: &Path) -> Nginx {
    let file = |name: &str, line: &str| {
        let path = passwords.join(name);
        std::fs::write(&path, line).unwrap();
        path.display().to_string()
    };
    let line = |user: &str, password: &str| host("htpasswd", &["-nbm", user, password], passwords);
    let (one, two) = (line("alice", "a-secret"), line("bob", "b-secret"));
    let files = [file("one", &one), file("two", &two), file("both", &format!("{one}{two}"))];
    Nginx::start(1, |ports| {
        let place = |path: &str, file: &str| {
            format!(
                "location {path} {{ auth_basic team; auth_basic_user_file {file}; proxy_pass http://{upstream}; \
                 proxy_set_header Host $http_host; proxy_set_header Authorization ''; }}\n"
            )
        };
        let places = [
            place("/v2/org/team/", &files[0]),
            place("/v2/org/team-b/", &files[1]),
            place("/v2/", &files[2]),
        ];
        format!("server {{\n listen 127.0.0.1:{};\n client_max_body_size 0;\n{}}}\n", ports[0], places.concat())
    })
    .unwrap()
}

/// So many builds, each of which pushes to both teams.
const BUILDS: usize = 200;

#[test]
fn privileged_two_logins_with_one_prefix_are_used_where_they_belong_every_time() {
    let bench = Bench::new();
    let passwords = testkit::scratch_dir("passwords-").unwrap();
    let nginx = of_two_teams(&bench.registry.host(), passwords.path());
    let host = nginx.host(0);
    let config = format!(
        r#"{{"auths": {{"{host}/org/team": {{"username": "alice", "password": "a-secret"}},
            "{host}/org/team-b": {{"username": "bob", "password": "b-secret"}}}}}}"#
    );
    std::fs::write(bench.out("config.json"), config).unwrap();
    let pod = bench.pod().bind_read_only(bench.out("config.json"), "/kaniko/.docker/config.json");
    for build in 0..BUILDS {
        let flags = [
            format!("--destination={host}/org/team/app:{build}"),
            format!("--destination={host}/org/team-b/app:{build}"),
            format!("--insecure-registry={host}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        bench.build_in(&pod, "FROM scratch\nCOPY Dockerfile /\n", &flags).assert_success();
    }
    for team in ["org/team/app", "org/team-b/app"] {
        assert_eq!(bench.registry.tags(team).unwrap().len(), BUILDS);
    }
    let denied: Vec<String> =
        nginx.requests().into_iter().filter(|line| line.contains(" 403 ")).collect();
    assert_eq!(denied, Vec::<String>::new());
}
