//! Secrets and keys, as the examples of Harness hand them over.

use testkit::Tree;
use testkit::oracle::skopeo_inspect;

use super::Step;
use crate::bench::host;

#[test]
fn privileged_the_examples_with_secrets_and_keys_run_without_privilege_and_leave_nothing() {
    let step = Step::new();
    let context = step.bench.context();
    host(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "who", "-f", "id_ed25519"],
        &context,
    );
    host("chmod", &["400", "id_ed25519"], &context);
    let key = std::fs::read_to_string(context.join("id_ed25519")).unwrap();
    let [ssh_add, ssh_keygen] =
        ["ssh-add", "ssh-keygen"].map(|name| step.bench.tool(&format!("/usr/bin/{name}")));
    std::fs::copy(context.join("id_ed25519.pub"), context.join("tools/key.pub")).unwrap();
    // What the key signs must be as good as what OpenSSH signs with the file.
    let dockerfile = format!(
        "FROM busybox AS tools\nCOPY tools /tools\nFROM busybox\n\
        RUN --mount=type=secret,id=USERNAME --mount=type=secret,id=PASSWORD,required \
        test \"$(wc -c < /run/secrets/USERNAME)\" = 11 && test \"$(wc -c < /run/secrets/PASSWORD)\" = 15\n\
        RUN test ! -e /run/secrets/USERNAME\n\
        RUN --mount=type=ssh,id=sshkey,required --mount=from=tools,source=/tools,target=/tools test -S \"$SSH_AUTH_SOCK\" && \
        {ssh_add} -l && {ssh_add} -T /tools/key.pub && \
        printf message | {ssh_keygen} -Y sign -f /tools/key.pub -n file > /signature\n\
        RUN --mount=from=tools,source=/tools,target=/tools test -z \"$SSH_AUTH_SOCK\" && ! {ssh_add} -l\n\
        RUN test -z \"$SSH_AUTH_SOCK\" && ! env | grep -q -e PLUGIN -e THE_USER && env > /environment\n"
    );
    step.bench.tree(
        &Tree::new()
            .file("Dockerfile", dockerfile)
            .file(".dockerignore", "*\n!tools\n")
            .file("password", "secret-password"),
    );
    let variables = [
        ("PLUGIN_NO_PUSH", "true"),
        ("PLUGIN_TAR_PATH", "/addon/image.tar"),
        ("PLUGIN_SECRETS_FROM_ENV", "USERNAME=THE_USER"),
        ("PLUGIN_SECRETS_FROM_FILE", "PASSWORD=/harness/password"),
        ("PLUGIN_BUILDX_OPTIONS", "--ssh=sshkey=/harness/id_ed25519"),
        ("THE_USER", "secret-user"),
    ];
    let output = step.run("kaniko-docker", &variables).assert_success();
    let archive = format!("docker-archive:{}", step.bench.out("image.tar").display());
    let unpacked = testkit::oracle::unpack(&archive).unwrap();
    let config = skopeo_inspect(&archive).unwrap().to_string();
    for secret in ["secret-user", "secret-password", key.lines().nth(2).unwrap()] {
        let search = format!("! grep -rqF -e {secret} .");
        host("sh", &["-c", &search], &unpacked.root());
        assert!(!config.contains(secret) && !output.to_string().contains(secret), "{secret}");
    }
    assert!(output.stdout.contains("256 SHA256:") && output.stdout.contains("who"), "{output}");
    let public = std::fs::read_to_string(context.join("id_ed25519.pub")).unwrap();
    std::fs::write(step.bench.out("signers"), format!("who {public}")).unwrap();
    std::fs::copy(unpacked.root().join("signature"), step.bench.out("signature")).unwrap();
    let verify = "printf message | ssh-keygen -Y verify -f signers -I who -n file -s signature";
    let verdict = host("sh", &["-c", verify], &step.bench.out(""));
    assert!(verdict.starts_with("Good \"file\" signature for who"), "{verdict}");
    let environment = std::fs::read_to_string(unpacked.root().join("environment")).unwrap();
    assert!(!environment.contains("PLUGIN"), "{environment}");
}
