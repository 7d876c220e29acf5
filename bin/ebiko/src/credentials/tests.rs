use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cli::Cli;

fn flags(arguments: &[&str]) -> CredentialFlags {
    let arguments = std::iter::once("executor").chain(arguments.iter().copied());
    let cli = Cli::read(arguments.map(Into::into)).unwrap();
    cli.registry.pull.credentials
}

/// A config that knows `user` for `r.io`.
fn config(user: &str) -> String {
    format!(r#"{{"auths":{{"r.io/{user}":{{"username":"{user}","password":"p"}}}}}}"#)
}

/// Which of the users in the configs are known, when these files are there and these variables are set. `@` is the
/// directory of the files.
#[track_caller]
fn check(files: &[&str], variables: &[(&str, &str)], arguments: &[&str], expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let at = |text: &str| text.replace('@', directory.path().to_str().unwrap());
    for file in files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, config(&file.replace(['/', '.'], ""))).unwrap();
    }
    let environment =
        Environment::of_list(variables.iter().map(|(name, value)| (*name, at(value))));
    let arguments: Vec<String> = arguments.iter().map(|text| at(text)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let actual = match configs(&flags(&arguments), &environment) {
        Ok(credentials) => {
            let print = format!("{credentials:?}");
            // The keys are all that is printed.
            let keys = print.split('"').filter_map(|text| text.strip_prefix("r.io/"));
            keys.collect::<Vec<_>>().join(" ")
        }
        Err(error) => format!("error: {error:#}").replace(directory.path().to_str().unwrap(), "@"),
    };
    assert_eq!(actual, expected, "{files:?} {variables:?}");
}

#[test]
fn the_first_file_that_is_there_is_the_config() {
    let all = [
        "docker/config.json",
        "home/.docker/config.json",
        "auth",
        "run/containers/auth.json",
        "xdg/containers/auth.json",
        "home/.config/containers/auth.json",
    ];
    let variables = [
        ("DOCKER_CONFIG", "@/docker/"),
        ("HOME", "@/home"),
        ("REGISTRY_AUTH_FILE", "@/auth"),
        ("XDG_RUNTIME_DIR", "@/run"),
        ("XDG_CONFIG_HOME", "@/xdg"),
    ];
    check(&all, &variables, &[], "dockerconfigjson");
    check(&all[1..], &variables[1..], &[], "homedockerconfigjson");
    check(&all[1..], &variables, &[], "auth");
    check(&all[3..], &variables, &[], "runcontainersauthjson");
    check(&all[4..], &variables, &[], "xdgcontainersauthjson");
    check(&all[5..], &[("HOME", "@/home")], &[], "homeconfigcontainersauthjson");
    check(&[], &variables, &[], "");
    check(&all, &[], &[], "");
}

#[test]
fn a_variable_may_hold_a_config_whether_there_is_a_file_or_not() {
    let variable = ("DOCKER_AUTH_CONFIG", r#"{"auths":{"r.io/variable":{"auth":"dTpw"}}}"#);
    check(&[], &[variable], &[], "variable");
    let home = ("HOME", "@");
    check(&[".docker/config.json"], &[variable, home], &[], "variable dockerconfigjson");
    check(
        &[],
        &[("DOCKER_AUTH_CONFIG", "s3cret")],
        &[],
        "error: cannot use the credentials in DOCKER_AUTH_CONFIG: the docker config is not valid JSON of its kind (line 1, \
         column 1)",
    );
}

#[test]
fn a_config_for_pulling_is_named_by_flag_or_variable_and_must_be_there() {
    let files = [".docker/config.json", "pull.json"];
    let home = ("HOME", "@");
    let flag = ["--pull-docker-config=@/pull.json"];
    let variable = ("EBIKO_PULL_DOCKER_CONFIG", "@/pull.json");
    check(&files, &[home], &flag, "dockerconfigjson pulljson");
    check(&files, &[home, variable], &[], "dockerconfigjson pulljson");
    check(
        &[],
        &[],
        &flag,
        "error: cannot read the credentials for pulling in `@/pull.json`: No such file or directory (os error 2)",
    );
}

#[test]
fn helpers_are_asked_in_the_order_of_the_flags() {
    let read = |arguments: &[&str]| {
        let flags = flags(arguments);
        let (helpers, unknown) = helpers(&flags.credential_helpers);
        let names: Vec<_> = helpers.into_iter().map(Helper::name).collect();
        format!("{} | {unknown:?}", names.join(" "))
    };
    assert_eq!(read(&[]), "env google ecr acr gitlab | []");
    assert_eq!(read(&["--credential-helpers=ecr", "--credential-helpers", "env"]), "ecr env | []");
    assert_eq!(read(&["--credential-helpers="]), " | []");
    assert_eq!(read(&["--credential-helpers", ""]), " | []");
    assert_eq!(read(&["--credential-helpers=ecr,x,ecr"]), "ecr | [\"x\"]");
}

#[test]
fn a_program_is_found_in_path_and_gets_little() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-test");
    std::fs::write(&program, "#!/bin/sh\nread -r server; echo \"$1 $server\"; env | sort\n")
        .unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("relative:{}:/usr/bin:/bin", directory.path().display());
    let environment = Environment::of_list(
        [
            ("PATH", path.as_str()),
            ("HOME", "/h"),
            ("AWS_REGION", "r"),
            ("GIT_TOKEN", "s3cret"),
            ("KANIKO_R_IO_PASSWORD", "s3cret"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    let programs = Programs::of(&environment);
    let ProgramOutcome::Ended { is_success: true, stdout } = programs.run("test", "r.io") else {
        panic!("it does not run")
    };
    let lines = String::from_utf8(stdout).unwrap();
    let lines: Vec<&str> = lines
        .lines()
        .filter(|line| !["PWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .collect();
    assert_eq!(lines, ["get r.io", "AWS_REGION=r", "HOME=/h", &format!("PATH={path}")]);
    assert_eq!(programs.run("none", "r.io"), ProgramOutcome::Missing);

    let mut beside = Environment::of([]);
    beside.executable = directory.path().join("executor");
    assert!(Programs::of(&beside).find("test").is_some());
}
