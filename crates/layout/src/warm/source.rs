//! Finding base images in the directory before they are fetched.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use ebiko_oci::{
    BlobOrigin, BlobSource, Descriptor, Digest, Event, Image, ImageSource, Manifest, ManifestBytes,
    NameSource, Observer, Platform, PortError, Reference, ResolvedImage,
};

use super::{State, WarmDirectory};

/// Images of a registry, whose layers come from a [`WarmDirectory`] where it has them.
///
/// - What a tag stands for is asked of the registry, with one request; what is then in the directory is not fetched.
/// - What a digest stands for is known to whoever has it, so nobody is asked.
/// - If the registry cannot be reached, a tag means what it meant when it was warmed, and a warning says so.
///
/// An entry that is damaged or too old is passed over, with a line about it.
pub struct WarmSource<'a> {
    directory: &'a WarmDirectory,
    registry: &'a dyn NameSource,
    observer: &'a dyn Observer,
}

/// Deeper nested indexes are left to the registry.
const INDEX_DEPTH: usize = 3;

impl<'a> WarmSource<'a> {
    /// Looks into `directory` first, and asks `registry` for the rest.
    pub fn new(
        directory: &'a WarmDirectory,
        registry: &'a dyn NameSource,
        observer: &'a dyn Observer,
    ) -> Self {
        Self { directory, registry, observer }
    }
}

impl std::fmt::Debug for WarmSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WarmSource").field("directory", self.directory).finish_non_exhaustive()
    }
}

impl ImageSource for WarmSource<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        let found = match reference.digest() {
            Some(digest) => (self.behind(reference, digest, platform), digest),
            None => match self.registry.look_up(reference) {
                Ok(manifest) => {
                    (self.behind_manifest(reference, &manifest, platform), manifest.digest)
                }
                Err(error) if error.is_unreachable => {
                    return self.as_recorded(reference, platform, error.source);
                }
                Err(error) => return Err(error.source),
            },
        };
        match found {
            (Some(image), digest) => Ok(ResolvedImage { image, digest }),
            (None, _) => self.registry.resolve(reference, platform),
        }
    }
}

impl WarmSource<'_> {
    /// The image that a manifest describes, or that an index has for `platform`.
    fn behind_manifest(
        &self,
        reference: &Reference,
        manifest: &ManifestBytes,
        platform: &Platform,
    ) -> Option<Image> {
        match Manifest::parse(&manifest.bytes, Some(&manifest.media_type)).ok()? {
            Manifest::Image(_) => self.image(reference, manifest.digest),
            Manifest::Index(index) => {
                self.behind(reference, index.select(platform).ok()?.digest, platform)
            }
        }
    }

    /// The same for a digest, as far as the directory has what it stands for.
    fn behind(
        &self,
        reference: &Reference,
        mut digest: Digest,
        platform: &Platform,
    ) -> Option<Image> {
        for _ in 0..INDEX_DEPTH {
            let bytes = match self.directory.index(digest) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return self.image(reference, digest),
                Err(error) => {
                    self.pass_over(digest, &error);
                    return None;
                }
            };
            let Ok(Manifest::Index(index)) = Manifest::parse(&bytes, None) else { return None };
            digest = index.select(platform).ok()?.digest;
        }
        None
    }

    /// The image whose manifest has this digest, if its entry can be used.
    fn image(&self, reference: &Reference, digest: Digest) -> Option<Image> {
        let shown = self.directory.path.display();
        match self.directory.state(digest) {
            State::Missing => return None,
            State::Tar => {
                let text =
                    format!("`{shown}/{digest}` is a tar of an older warmer and is not used");
                self.observer.event(Event::Warning { text: &text });
                return None;
            }
            State::Expired => {
                let text = format!("`{shown}/{digest}` is older than --cache-ttl and is not used");
                self.observer.event(Event::Warning { text: &text });
                return None;
            }
            State::Fresh => {}
        }
        let pinned = reference.at(digest);
        let blob = |path: PathBuf, descriptor: &Descriptor| -> Arc<dyn BlobSource> {
            let elsewhere = self.registry.blob(&pinned, descriptor);
            Arc::new(WarmBlob { path, size: descriptor.size, elsewhere })
        };
        match self.directory.open(digest, blob) {
            Ok(image) => {
                let path = shown.to_string();
                self.observer.event(Event::FoundOnDisk { reference, digest, path: &path });
                Some(image)
            }
            Err(error) => {
                self.pass_over(digest, &error);
                None
            }
        }
    }

    fn pass_over(&self, digest: Digest, error: &dyn Error) {
        let shown = self.directory.path.display();
        let text = format!("{digest} in `{shown}` cannot be used: {}", one_line(error));
        self.observer.event(Event::Warning { text: &text });
    }

    /// What the name stood for when it was warmed; `unreachable` if that is not known either.
    fn as_recorded(
        &self,
        reference: &Reference,
        platform: &Platform,
        unreachable: PortError,
    ) -> Result<ResolvedImage, PortError> {
        let Some(record) = self.directory.record(reference, platform) else {
            return Err(unreachable);
        };
        let Some(image) = self.image(reference, record.manifest) else { return Err(unreachable) };
        let text = format!(
            "{}; {} is taken for {}, which it was at {}",
            one_line(&*unreachable),
            reference.familiar(),
            record.digest(),
            record.time
        );
        self.observer.event(Event::Warning { text: &text });
        Ok(ResolvedImage { image, digest: record.digest() })
    }
}

/// A layer in the directory.
///
/// It can be mounted from where the image comes from, and is fetched from there if the file is gone when it is needed.
struct WarmBlob {
    path: PathBuf,
    size: u64,
    elsewhere: Arc<dyn BlobSource>,
}

impl BlobSource for WarmBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let file = std::fs::metadata(&self.path)
            .ok()
            // Opening a pipe would wait for somebody to write to it.
            .filter(|metadata| metadata.is_file() && metadata.len() == self.size)
            .and_then(|_| File::open(&self.path).ok());
        match file {
            Some(file) => Ok(Box::new(file.take(self.size))),
            None => self.elsewhere.open(),
        }
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        self.elsewhere.origins()
    }
}

/// The error with its causes, on one line.
fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent level repeats the one above it.
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
