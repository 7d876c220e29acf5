//! A case on disk, ready to be built.

use std::collections::BTreeMap;
use std::path::Path;

use super::{BuildCase, NamedContext, context, repository};
use crate::http_server::{HttpServer, Page};
use crate::record::{Entry, Record};

/// A case whose files lie below a directory: the context in `context`, each named one in `named/<name>`, each secret in
/// `secrets/<id>`, each base as an OCI layout in `bases/<name>`.
#[derive(Debug)]
pub struct Arranged {
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Labels given beside the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// The stage to build, if not the last.
    pub target: Option<String>,
    /// The platform, if not the machine's.
    pub platform: Option<String>,
    /// The names of named contexts that are directories.
    pub directories: Vec<String>,
    /// Named contexts that are something else, with what they are.
    pub references: BTreeMap<String, String>,
    /// The ids of secrets.
    pub secrets: Vec<String>,
    /// The names of bases.
    pub bases: Vec<String>,
    /// What the build is allowed beyond the usual.
    pub allow: Vec<String>,
    /// Whether files that are younger than the build's time get that time.
    pub rewrite_timestamp: bool,
    places: BTreeMap<&'static str, String>,
    /// They end with the value.
    _servers: [Option<HttpServer>; 2],
}

pub(super) fn arrange(case: &BuildCase, dir: &Path) -> anyhow::Result<Arranged> {
    let options = &case.options;
    let server = if options.served.is_empty() {
        None
    } else {
        let page = |(path, node): (&String, &context::Node)| {
            let body = node.content()?.unwrap_or_default();
            Ok((path.clone(), Page { body, last_modified: node.time(), ..Page::default() }))
        };
        Some(HttpServer::pages(options.served.iter().map(page).collect::<anyhow::Result<_>>()?)?)
    };
    let repository = if options.repository.is_empty() {
        None
    } else {
        let repository = dir.join("repository");
        repository::write(&options.repository, &repository)?;
        Some(HttpServer::directory(repository)?)
    };
    let mut places = BTreeMap::new();
    places.extend(server.iter().map(|server| ("{{HTTP}}", server.url())));
    places.extend(repository.iter().map(|server| ("{{GIT}}", format!("{}/.git", server.url()))));
    let filled = |text: &str| {
        places.iter().fold(text.to_owned(), |text, (place, url)| text.replace(place, url))
    };

    // The Dockerfile is in the context, and a `COPY .` of it shows.
    let mut nodes = options.context.clone();
    let dockerfile = filled(&case.case.text("Dockerfile"));
    nodes.insert(case.dockerfile().to_owned(), context::Node::Text(dockerfile));
    let write = |name: &str, nodes: &BTreeMap<String, context::Node>| {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir)?;
        context::tree(nodes)?.write_to(&dir)
    };
    write("context", &nodes)?;
    let (mut directories, mut references) = (Vec::new(), BTreeMap::new());
    for (name, source) in &options.contexts {
        match source {
            NamedContext::Directory(nodes) => {
                write(&format!("named/{name}"), nodes)?;
                directories.push(name.clone());
            }
            NamedContext::Reference(text) => drop(references.insert(name.clone(), filled(text))),
        }
    }
    for (id, value) in &options.secrets {
        std::fs::create_dir_all(dir.join("secrets"))?;
        std::fs::write(dir.join("secrets").join(id), value)?;
    }
    for (name, members) in &options.bases {
        std::fs::create_dir_all(dir.join("bases"))?;
        super::base()?.with_config(members, &dir.join("bases").join(name))?;
    }
    Ok(Arranged {
        build_args: options
            .build_args
            .iter()
            .map(|(key, value)| (key.clone(), filled(value)))
            .collect(),
        labels: options.labels.clone(),
        dockerfile: case.dockerfile().to_owned(),
        target: options.target.clone(),
        platform: options.platform.clone(),
        directories,
        references,
        secrets: options.secrets.keys().cloned().collect(),
        bases: options.bases.keys().cloned().collect(),
        allow: options.allow.clone(),
        rewrite_timestamp: options.rewrite_timestamp,
        places,
        _servers: [server, repository],
    })
}

impl Arranged {
    /// The record with the servers' addresses, which are others each time, hidden again.
    pub fn without_addresses(&self, mut record: Record) -> Record {
        let hide = |text: &mut String| {
            for (place, url) in &self.places {
                *text = text.replace(url, place);
            }
        };
        hide(&mut record.error);
        record.history.iter_mut().for_each(|line| hide(&mut line.created_by));
        record.files.values_mut().filter_map(|Entry { text, .. }| text.as_mut()).for_each(hide);
        record
    }
}
