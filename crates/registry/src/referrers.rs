//! What is about an image: pushed beside it, and listed where the registry keeps no list itself.
//!
//! Distribution specification 1.1, "Pushing Manifests with Subject": a registry that knows of subjects says so when it takes
//! such a manifest. For another one, whoever pushes keeps a list under a tag that is made of the digest of the subject. Two
//! that push about one image at the same time may lose a line of that list; such a registry offers nothing against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebiko_oci::{
    Descriptor, Digest, Event, ImageIndex, Manifest, ManifestBytes, MediaType, Observer, Referrer,
};
use ebiko_transport::header::CONTENT_TYPE;
use ebiko_transport::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::pull::{self, PullErrorKind};
use crate::push::{PushErrorKind, Stored, push_manifest};
use crate::registry::Client;
use crate::routes::Endpoint;
use crate::session::Session;

/// Sends manifests whose blobs are there, and sees to it that they are found from what they are about.
pub(crate) fn push(
    client: &Arc<Client>,
    endpoint: &Endpoint,
    referrers: &[Referrer],
    observer: &dyn Observer,
) -> Result<(), PushErrorKind> {
    let mut unlisted: BTreeMap<Digest, Vec<&ManifestBytes>> = BTreeMap::new();
    for Referrer { manifest, subject } in referrers {
        let stored = push_manifest(client, endpoint, &manifest.digest.to_string(), manifest)?;
        let is_known =
            matches!(stored, Stored::AsSent { subject: Some(known) } if known == *subject);
        if !is_known {
            unlisted.entry(*subject).or_default().push(manifest);
        }
    }
    for (subject, manifests) in unlisted {
        if !keeps_list(client, endpoint, subject)? {
            list(client, endpoint, subject, &manifests, observer)?;
        }
    }
    Ok(())
}

/// Whether the registry answers who is about `subject`.
fn keeps_list(
    client: &Client,
    endpoint: &Endpoint,
    subject: Digest,
) -> Result<bool, PushErrorKind> {
    let session = Session::new(client, endpoint)?;
    let request = session.request(Method::GET, &format!("referrers/{subject}"))?;
    let response = session.send(&request, "the question for referrers")?;
    let is_index = response.header(CONTENT_TYPE).map(MediaType::parse) == Some(MediaType::OciIndex);
    Ok(response.status() == StatusCode::OK && is_index)
}

/// Adds lines to the list that is kept under a tag.
fn list(
    client: &Arc<Client>,
    endpoint: &Endpoint,
    subject: Digest,
    manifests: &[&ManifestBytes],
    observer: &dyn Observer,
) -> Result<(), PushErrorKind> {
    let tag = format!("sha256-{}", subject.hex());
    let mut index = match pull::fetch_anew(client, &tag, None, std::slice::from_ref(endpoint)) {
        Ok(fetched) => {
            let manifest = fetched.manifest;
            match Manifest::parse(&manifest.bytes, Some(&manifest.media_type)) {
                Ok(Manifest::Index(index)) => index,
                // Somebody else's, and nothing to be written over.
                Ok(Manifest::Image(_)) | Err(_) => return Err(PushErrorKind::NoList { tag }),
            }
        }
        Err(PullErrorKind::NotFound { .. }) => ImageIndex {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests: Vec::new(),
            annotations: None,
        },
        Err(source) => return Err(PushErrorKind::List { tag, source: Box::new(source) }),
    };
    let listed: BTreeSet<Digest> = index.manifests.iter().map(|entry| entry.digest).collect();
    let missing = manifests.iter().filter(|manifest| !listed.contains(&manifest.digest));
    let lines = missing.map(|manifest| line(manifest)).collect::<Result<Vec<_>, _>>()?;
    if lines.is_empty() {
        return Ok(());
    }
    index.manifests.extend(lines);
    let bytes = serde_json::to_vec(&index).map_err(|source| PushErrorKind::Document { source })?;
    let digest = Digest::of(&bytes);
    let media_type = index.media_type.unwrap_or(MediaType::OciIndex);
    let stored =
        push_manifest(client, endpoint, &tag, &ManifestBytes { media_type, bytes, digest })?;
    if let Stored::NotAtAll { answer } = stored {
        let text = format!("the list of referrers `{tag}` is left as it is: {answer}");
        observer.event(Event::Warning { text: &text });
    }
    Ok(())
}

/// The line of a list: a descriptor with what its manifest is and says of itself.
fn line(manifest: &ManifestBytes) -> Result<Descriptor, PushErrorKind> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outline {
        artifact_type: Option<String>,
        config: Option<Config>,
        annotations: Option<BTreeMap<String, String>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        media_type: String,
    }
    let outline: Outline = serde_json::from_slice(&manifest.bytes)
        .map_err(|source| PushErrorKind::Document { source })?;
    let kind = outline.artifact_type.filter(|kind| !kind.is_empty());
    let kind = kind.or(outline.config.map(|config| config.media_type));
    let size = manifest.bytes.len() as u64;
    let mut line = Descriptor::new(manifest.media_type.clone(), manifest.digest, size);
    line.annotations = outline.annotations;
    line.extra.extend(kind.map(|kind| ("artifactType".to_owned(), Value::String(kind))));
    Ok(line)
}
