//! The servers of a case: pages over HTTP and repositories over Git's dumb protocol.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;
use testkit::command::{capture, capture_text};
use testkit::{HttpServer, Page};

use super::case::{Case, Substitutions};
use super::tree;

/// Ends with the case.
#[derive(Debug, Default)]
pub(super) struct Servers {
    _running: Vec<HttpServer>,
}

/// Starts what the case needs, and says what its placeholders stand for.
pub(super) fn start(
    case: &Case,
    dir: &Path,
    substitutions: &mut Substitutions,
) -> anyhow::Result<Servers> {
    let mut running = Vec::new();
    if let Some(kind) = case.field("git").as_str() {
        repository(kind, dir, substitutions, &mut running)
            .with_context(|| format!("cannot make the repository `{kind}`"))?;
    }
    if !case.field("http").is_null() {
        let items = substitutions.replace(case.field("http").clone());
        let pages = items.as_array().into_iter().flatten().map(page);
        let server = HttpServer::pages(pages.collect::<anyhow::Result<_>>()?)?;
        substitutions.insert("HTTP", server.url());
        running.push(server);
    }
    Ok(Servers { _running: running })
}

fn page(item: &Value) -> anyhow::Result<(String, Page)> {
    let page = Page {
        body: tree::body(item)?,
        last_modified: item["last_modified"].as_u64(),
        content_disposition: item["content_disposition"].as_str().map(str::to_owned),
    };
    Ok((item["path"].as_str().unwrap_or_default().to_owned(), page))
}

/// Commits have one time and one author, so that they have the same names whenever they are made.
struct Repository {
    dir: PathBuf,
}

impl Repository {
    fn new(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir(&dir)?;
        let repository = Self { dir };
        repository.git("init -q -b master .")?;
        repository.git("config user.email test")?;
        repository.git("config user.name test")?;
        Ok(repository)
    }

    /// Runs git with these words.
    fn git(&self, words: &str) -> anyhow::Result<String> {
        let time = "2023-11-14T22:15:01Z";
        let mut command = Command::new("git");
        command
            .args(words.split(' '))
            .current_dir(&self.dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_DATE", time)
            .env("GIT_COMMITTER_DATE", time);
        capture_text(&mut command)
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn commit(&self, paths: &str, message: &str) -> anyhow::Result<()> {
        self.git(&format!("add {paths}"))?;
        self.git(&format!("commit -q -m {message}")).map(drop)
    }

    fn commit_of(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.git(&format!("rev-parse {name}"))?.trim().to_owned())
    }

    /// Makes the lists that the dumb protocol reads, and serves the repository.
    fn serve(&self) -> anyhow::Result<HttpServer> {
        self.git("update-server-info")?;
        HttpServer::directory(&self.dir)
    }
}

fn repository(
    kind: &str,
    dir: &Path,
    substitutions: &mut Substitutions,
    running: &mut Vec<HttpServer>,
) -> anyhow::Result<()> {
    let repository = Repository::new(dir.join("git"))?;
    match kind {
        "tags" => {
            for (tag, name) in [("v0.0.1", "GIT_V1"), ("v0.0.2", "GIT_V2"), ("v0.0.3", "GIT_V3")] {
                repository.write("foo", &format!("foo of {tag}\n"))?;
                repository.commit("foo", tag)?;
                repository.git(&format!("tag {tag}"))?;
                substitutions.insert(name, repository.commit_of(tag)?);
            }
        }
        "query" => {
            let submodule = Repository::new(dir.join("submod"))?;
            submodule.write("file", "123\n")?;
            submodule.commit("file", "initial")?;
            let server = submodule.serve()?;
            make_query(&repository, &server.url())?;
            running.push(server);
            for (tag, name) in [("v0.0.2", "GIT_V2"), ("latest", "GIT_LATEST")] {
                let commit = repository.commit_of(tag)?;
                substitutions.insert(&format!("{name}_8"), commit.get(..8).unwrap_or_default());
                substitutions.insert(name, commit);
            }
        }
        "modes" => {
            let script = "mkdir sub; echo x > sub/f; echo y > run.sh; chmod 755 run.sh; chmod 600 sub/f; \
                          ln -s sub/f link; echo z > n; chmod 666 n";
            capture(Command::new("sh").args(["-c", script]).current_dir(&repository.dir))?;
            repository.commit("-A", "m")?;
        }
        other => bail!("there is no recipe for `{other}`"),
    }
    let server = repository.serve()?;
    substitutions.insert("GIT", format!("{}/.git", server.url()));
    substitutions.insert("GIT_DIR", repository.dir.display().to_string());
    running.push(server);
    Ok(())
}

/// Three versions of `foo` on two branches, a submodule, a Dockerfile for each of these.
fn make_query(repository: &Repository, submodule: &str) -> anyhow::Result<()> {
    let dockerfile = "\nFROM scratch AS withgit\nCOPY .git/HEAD out\n\n\
                      FROM scratch as withsubmod\nCOPY submod/file out\n\nFROM scratch\nCOPY foo out\n";
    repository.write("foo", "base\n")?;
    repository.write("Dockerfile", dockerfile)?;
    repository.git(&format!("submodule --quiet add {submodule}/.git submod"))?;
    repository.commit("Dockerfile foo submod", "initial")?;
    repository.git("tag v0.0.1")?;
    repository.git("branch base")?;
    repository.write("foo", "feature\n")?;
    std::fs::create_dir(repository.dir.join("sub"))?;
    repository.write("sub/foo", "subfeature\n")?;
    repository.write("sub/Dockerfile", dockerfile)?;
    repository.commit("foo sub", "feature")?;
    repository.git("branch feature")?;
    repository.git("checkout -q -B master base")?;
    for tag in ["v0.0.2", "latest"] {
        repository.write("foo", &format!("{tag}\n"))?;
        repository.commit("foo", tag)?;
        repository.git(&format!("tag {tag}"))?;
    }
    Ok(())
}
