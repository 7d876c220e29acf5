use std::collections::BTreeMap;

use ebiko_transport::Options;

use super::*;

/// The credentials of one config.
fn of(config: &str) -> Result<Credentials, CredentialsError> {
    Credentials::from_docker_config(config.as_bytes())
}

/// What there is for `name` (`registry/repository`), as text.
fn found(credentials: &Credentials, access: Access, name: &str) -> String {
    let transport = Transport::new(&Options::default()).expect("the options are right");
    let (registry, repository) = name.split_once('/').expect("the table holds names");
    let found = match credentials.find(&transport, access, registry, repository) {
        Err(error) => return format!("error: {error}"),
        Ok(found) => found,
    };
    let source = match found.who {
        Identity::Entry { key, .. } => key,
        Identity::Program { name, entry, .. } => format!("{entry} {name}"),
        Identity::Helper { helper } => helper.to_string(),
        Identity::Anonymous { asked } if asked.is_empty() => "nothing".into(),
        Identity::Anonymous { asked } => format!("nothing: {}", asked.join("; ")),
    };
    match found.credential {
        None => source,
        Some(Credential::Basic { user, password }) => {
            format!("{source}: {user} {}", password.reveal())
        }
        Some(Credential::Identity { token }) => format!("{source}: identity {}", token.reveal()),
        Some(Credential::Bearer { token }) => format!("{source}: bearer {}", token.reveal()),
    }
}

#[track_caller]
fn check(config: &str, name: &str, expected: &str) {
    let actual = match of(config) {
        Ok(credentials) => found(&credentials, Access::Pull, name),
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(actual, expected, "{name}");
}

#[test]
fn every_shape_of_entry_is_read() {
    let config = r#"{"auths":{
        "a.io":{"auth":"dXNlcjpwYTpzcw=="},
        "b.io":{"username":"user","password":"pw"},
        "c.io":{"auth":"dXNlcjpwdw==","identitytoken":"refresh"},
        "d.io":{"registrytoken":"token"},
        "e.io":{"auth":"PHRva2VuPjpyZWZyZXNo"},
        "f.io":{"auth":"dXNlcjpwdw"},
        "g.io":{"auth":"dXNlcjpwdwAA","email":"x@y"},
        "h.io":{},
        "j.io":null,
        "k.io":{"auth":"dXNl\ncjpw\ndw==\n"}
    },"HttpHeaders":{"X":"y"},"psFormat":"x"}"#;
    check(config, "a.io/x", "a.io: user pa:ss");
    check(config, "b.io/x", "b.io: user pw");
    check(config, "c.io/x", "c.io: identity refresh");
    check(config, "d.io/x", "d.io: bearer token");
    check(config, "e.io/x", "e.io: identity refresh");
    check(config, "f.io/x", "f.io: user pw");
    check(config, "g.io/x", "g.io: user pw");
    check(config, "h.io/x", "nothing");
    check(config, "i.io/x", "nothing");
    check(config, "j.io/x", "nothing");
    check(config, "k.io/x", "k.io: user pw");
    check("{}", "a.io/x", "nothing");
    check(r#"{"auths":null,"credHelpers":null,"credsStore":""}"#, "a.io/x", "nothing");
}

const SCOPED: &str = r#"{"auths":{
    "r.io":{"username":"all","password":""},
    "r.io/team":{"username":"team","password":""},
    "https://r.io/team/app/":{"username":"app","password":""},
    "r.io:5000":{"username":"port","password":""}
}}"#;

#[test]
fn the_longest_path_of_whole_parts_wins() {
    check(SCOPED, "r.io/other", "r.io: all ");
    check(SCOPED, "r.io/team/x", "r.io/team: team ");
    check(SCOPED, "r.io/team", "r.io/team: team ");
    check(SCOPED, "r.io/team/app/x", "https://r.io/team/app/: app ");
    check(SCOPED, "r.io/team/application", "r.io/team: team ");
    check(SCOPED, "r.io/teams/app", "r.io: all ");
    check(SCOPED, "r.io:5000/team/app", "r.io:5000: port ");
    check(SCOPED, "sub.r.io/team", "nothing");
    check(SCOPED, "r.io.evil.example/team", "nothing");
}

#[test]
fn docker_hub_answers_to_all_its_names() {
    for key in [
        "https://index.docker.io/v1/",
        "https://index.docker.io/v2/",
        "index.docker.io",
        "docker.io",
        "https://docker.io",
        "https://registry-1.docker.io/v2/",
        "registry.hub.docker.com",
        "https://registry.hub.docker.com/v2/",
    ] {
        let config = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
        check(&config, "index.docker.io/library/debian", &format!("{key}: u p"));
        check(&config, "registry.hub.docker.com/library/debian", &format!("{key}: u p"));
    }
}

#[test]
fn an_entry_with_a_secret_is_preferred_to_an_empty_one() {
    let config = r#"{"auths":{"docker.io":{},"https://index.docker.io/v1/":{"username":"u","password":"p"}}}"#;
    check(config, "index.docker.io/a/b", "https://index.docker.io/v1/: u p");
    let config = r#"{"auths":{"r.io":{"username":"u","password":"p"},"r.io/team":{}}}"#;
    check(config, "r.io/team/x", "r.io: u p");
}

/// Answers for `NAME SERVER`, and nothing for anybody else; the program `gone` is not there.
struct Scripted(BTreeMap<&'static str, ProgramOutcome>);

impl CredentialPrograms for Scripted {
    fn run(&self, name: &str, server: &str) -> ProgramOutcome {
        if matches!(name, "gone" | "ecr-login") {
            return ProgramOutcome::Missing;
        }
        let known = self.0.get(format!("{name} {server}").as_str()).cloned();
        known.unwrap_or(ProgramOutcome::Ended {
            is_success: false,
            stdout: b"credentials not found in native keychain".into(),
        })
    }
}

fn gives(user: &str) -> ProgramOutcome {
    let stdout = format!(r#"{{"Username":"{user}","Secret":"p"}}"#).into_bytes();
    ProgramOutcome::Ended { is_success: true, stdout }
}

#[track_caller]
fn check_programs(config: &str, checks: &[(&str, &str)], failures: &[&str]) {
    let scripted = Scripted(BTreeMap::from([
        ("pass r.io", gives("passed")),
        ("pass r.io/team", gives("team")),
        ("pass https://index.docker.io/v1/", gives("hub")),
        ("store https://s.io", gives("as-stored")),
        ("store t.io", gives("destination")),
        ("bad r.io", ProgramOutcome::Failed { reason: "did not end in 30 s".into() }),
    ]));
    let mut credentials = of(config).expect("the config is right");
    let told = credentials.ask_programs(&scripted, &["t.io".into()]);
    assert_eq!(told, failures);
    for (name, expected) in checks {
        assert_eq!(found(&credentials, Access::Push, name), *expected, "{name}");
    }
}

#[test]
fn programs_of_registries_are_asked_before_entries_of_the_same_path() {
    check_programs(
        r#"{"auths":{"r.io":{"username":"u","password":"p"},"r.io/own":{"username":"own","password":"p"},
            "q.io":{"username":"q","password":"p"}},
            "credHelpers":{"r.io":"pass","r.io/team":"pass","https://index.docker.io/v1/":"pass","q.io":"pass"}}"#,
        &[
            ("r.io/x", "credHelpers › r.io pass: passed p"),
            ("r.io/team/x", "credHelpers › r.io/team pass: team p"),
            ("r.io/own/x", "r.io/own: own p"),
            ("index.docker.io/a/b", "credHelpers › https://index.docker.io/v1/ pass: hub p"),
            ("q.io/x", "q.io: q p"),
        ],
        &[],
    );
}

#[test]
fn a_store_is_asked_where_login_left_an_empty_entry_and_hides_no_secret() {
    check_programs(
        r#"{"auths":{"https://s.io":{},"r.io":{"username":"u","password":"p"}},"credsStore":"store"}"#,
        &[
            ("s.io/x", "credsStore store: as-stored p"),
            ("t.io/x", "credsStore store: destination p"),
            ("r.io/x", "r.io: u p"),
            (
                "v.io/x",
                "nothing: `docker-credential-store` was not asked, because programs are asked before the build and nothing \
                 told that `v.io` would be needed",
            ),
        ],
        &[],
    );
}

#[test]
fn a_program_that_fails_is_told_and_is_no_answer() {
    check_programs(
        r#"{"credHelpers":{"r.io":"bad","s.io":"gone","u.io":"../evil","w.io":"pass"}}"#,
        &[
            ("r.io/x", "nothing: `docker-credential-bad` did not end in 30 s"),
            (
                "s.io/x",
                "nothing: `docker-credential-gone` is neither in PATH nor beside the executor",
            ),
            ("u.io/x", "nothing: `docker-credential-../evil` has no name that a program may have"),
            ("w.io/x", "nothing: `docker-credential-pass` has none"),
        ],
        &[
            "`docker-credential-../evil` has no credentials for `u.io`: it has no name that a program may have",
            "`docker-credential-bad` has no credentials for `r.io`: it did not end in 30 s",
        ],
    );
}

#[test]
fn where_the_machine_stays_as_it_is_programs_are_asked_when_they_are_needed_and_once() {
    #[derive(Default)]
    struct Counting(std::sync::Mutex<Vec<String>>);
    impl CredentialPrograms for Counting {
        fn run(&self, name: &str, server: &str) -> ProgramOutcome {
            self.0.lock().expect("nobody panicked").push(format!("{name} {server}"));
            match name {
                "bad" => ProgramOutcome::Failed { reason: "cannot be started".into() },
                _ => gives("passed"),
            }
        }
    }
    let config =
        r#"{"credHelpers":{"r.io":"pass","s.io":"pass","b.io":"bad"},"credsStore":"store"}"#;
    let counting = Arc::new(Counting::default());
    let port: Arc<dyn CredentialPrograms> = Arc::clone(&counting) as _;
    let credentials = of(config).expect("the config is right").with_programs(port);
    for _ in 0..2 {
        assert_eq!(
            found(&credentials, Access::Push, "r.io/x"),
            "credHelpers › r.io pass: passed p"
        );
        assert_eq!(found(&credentials, Access::Pull, "t.io/x"), "credsStore store: passed p");
    }
    let transport = Transport::new(&Options::default()).expect("the options are right");
    let warnings =
        || credentials.find(&transport, Access::Pull, "b.io", "x").expect("it is found").warnings;
    assert_eq!(
        warnings(),
        ["`docker-credential-bad` has no credentials for `b.io`: it cannot be started"]
    );
    assert_eq!(warnings(), Vec::<String>::new(), "it is told once");
    let asked = counting.0.lock().expect("nobody panicked").clone();
    assert_eq!(asked, ["pass r.io", "store t.io", "bad b.io", "store b.io"]);
}

#[test]
fn a_config_in_front_shadows_those_behind_it_key_by_key() {
    let front = br#"{"auths":{"r.io":{"username":"front","password":"p"}}}"#;
    let behind = br#"{"auths":{"r.io":{"username":"behind","password":"p"},
        "r.io/team":{"username":"team","password":"p"},"s.io":{"username":"s","password":"p"}}}"#;
    let credentials = Credentials::default()
        .with_config("DOCKER_AUTH_CONFIG", front)
        .and_then(|credentials| credentials.with_config("`config.json`", behind))
        .expect("the configs are right");
    for (name, expected) in
        [("r.io/x", "r.io: front p"), ("r.io/team/x", "r.io/team: team p"), ("s.io/x", "s.io: s p")]
    {
        assert_eq!(found(&credentials, Access::Push, name), expected);
    }
}

#[test]
fn one_registry_is_pulled_from_as_somebody_else_than_it_is_pushed_to() {
    let pull = br#"{"auths":{"r.io":{"username":"puller","password":"p"}}}"#;
    let both = br#"{"auths":{"https://r.io":{"username":"pusher","password":"p"},
        "r.io/cache":{"username":"cache","password":"p"},"s.io":{"username":"s","password":"p"}}}"#;
    let credentials = Credentials::default()
        .with_config("`config.json`", both)
        .and_then(|credentials| credentials.with_pull_config("`pull.json`", pull))
        .expect("the configs are right");
    let check = |name, pulling: &str, pushing: &str| {
        assert_eq!(found(&credentials, Access::Pull, name), pulling);
        assert_eq!(found(&credentials, Access::Push, name), pushing);
    };
    check("r.io/x", "r.io: puller p", "https://r.io: pusher p");
    check("r.io/cache/x", "r.io/cache: cache p", "r.io/cache: cache p");
    check("s.io/x", "s.io: s p", "s.io: s p");
}

#[test]
fn the_order_of_entries_never_matters() {
    // kaniko takes the first that fits in the order of a map, and so is wrong in one of ten lookups.
    for _ in 0..200 {
        let config = r#"{"auths":{
            "http://127.0.0.1:5000/base":{"username":"base","password":"p"},
            "http://127.0.0.1:5000/ns":{"username":"ns","password":"p"},
            "http://127.0.0.1:5000/ns-b":{"username":"ns-b","password":"p"}}}"#;
        let credentials = of(config).expect("the config is right");
        let find = |name: &str| {
            let candidates = credentials.candidates(Access::Push, "127.0.0.1:5000", name);
            let keys = candidates.iter().map(|candidate| match candidate.kind {
                Kind::Entry { key, .. } => key.to_owned(),
                Kind::Program { .. } => "program".to_owned(),
            });
            keys.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(find("base/x"), "http://127.0.0.1:5000/base");
        assert_eq!(find("ns/x"), "http://127.0.0.1:5000/ns");
        assert_eq!(find("ns-b/x"), "http://127.0.0.1:5000/ns-b");
        assert_eq!(find("other/x"), "");
    }
}

#[test]
fn a_broken_entry_is_named_when_it_is_needed_and_not_before() {
    let config = r#"{"auths":{"a.io":{"auth":"s3cret!"},"b.io":{"auth":"czNjcmV0"},"c.io":{}}}"#;
    check(
        config,
        "a.io/x",
        "error: the entry `a.io` of the docker config has an `auth` that is not base64 of a text",
    );
    check(
        config,
        "b.io/x",
        "error: the entry `b.io` of the docker config has an `auth` that is not `user:password`",
    );
    check(config, "c.io/x", "nothing");
}

#[test]
fn a_config_that_is_no_config_is_refused_without_quoting_it() {
    for config in [
        r#"{"auths":{"a.io":"s3cret"}}"#,
        r#"{"auths":{"a.io":{"auth":["s3cret"]}}}"#,
        r#"{"auths":{"s3cret":s3cret}}"#,
        "s3cret",
        "",
    ] {
        let error = of(config).expect_err("it is no docker config");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn no_print_shows_a_secret() {
    let credentials = of(r#"{"auths":{"a.io":{"username":"u","password":"s3cret"}}}"#)
        .expect("the config is right");
    let transport = Transport::new(&Options::default()).expect("the options are right");
    let found = credentials.find(&transport, Access::Pull, "a.io", "x").expect("it is found");
    let print = format!("{credentials:?} {found:?} {}", found.who);
    assert!(print.contains("a.io") && !print.contains("s3cret"), "{print}");
}
