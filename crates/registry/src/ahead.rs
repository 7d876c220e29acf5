//! Layers that are sent before the image is complete.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use ebiko_oci::{BlobSink, BlobSource, Descriptor, Reference};

use crate::push::{Blob, deliver};
use crate::registry::{Client, Registry};
use crate::routes::Endpoint;
use crate::session::Session;

/// Sends blobs to the destinations of an image while the image is still being built.
///
/// [`Registry::push`] waits for a blob that is on its way and does not send it again. What cannot be sent is left to it,
/// and so is the error. Nothing of a blob is visible in a registry until a manifest names it; registries remove what no
/// manifest names.
#[derive(Debug)]
pub struct Ahead {
    blobs: Option<Sender<Blob>>,
}

impl Registry {
    /// Makes ready to send ahead to the repositories of `destinations`; nothing is asked yet. Without any, or if no thread
    /// can be started, every offer is let go.
    pub fn ahead(&self, destinations: &[Reference]) -> Ahead {
        let endpoints: BTreeSet<Endpoint> =
            destinations.iter().map(|to| self.client.routes.for_push(to)).collect();
        if endpoints.is_empty() {
            return Ahead { blobs: None };
        }
        let (blobs, offered) = channel();
        let client = Arc::clone(&self.client);
        // It ends with the last offer, and is never waited for: an upload must not hold up a build that has failed.
        let thread = std::thread::Builder::new().name("ahead".into());
        let started = thread.spawn(move || send(&client, &endpoints, &offered));
        Ahead { blobs: started.is_ok().then_some(blobs) }
    }
}

impl BlobSink for Ahead {
    fn offer(&self, descriptor: &Descriptor, blob: &Arc<dyn BlobSource>) {
        if let Some(blobs) = &self.blobs {
            let Descriptor { digest, size, .. } = *descriptor;
            let _nobody_takes_it = blobs.send(Blob { digest, size, source: Arc::clone(blob) });
        }
    }
}

fn send(client: &Client, endpoints: &BTreeSet<Endpoint>, offered: &Receiver<Blob>) {
    for blob in offered {
        for endpoint in endpoints {
            // Whoever pushes the image tries again, and tells why it fails.
            let _delivery =
                Session::new(client, endpoint).and_then(|session| deliver(&session, &blob));
        }
    }
}
