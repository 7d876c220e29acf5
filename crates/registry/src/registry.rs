//! The registry client and what it remembers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ebiko_oci::{Digest, Platform, Reference, ResolvedImage};
use ebiko_transport::{Transport, Url};

use crate::credentials::Credentials;
use crate::progress::{Direction, Meter, Progress, ProgressTeller};
use crate::pull::Fetched;
use crate::routes::{Endpoint, Routes};
use ebiko_cloud::Secret;

/// A client for all registries. Clones share what is remembered.
#[derive(Clone)]
pub struct Registry {
    pub(crate) client: Arc<Client>,
}

/// How the client behaves where users want it in different ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// How often more than usual a request of a push is tried (`--push-retry`).
    pub push_retries: u32,
    /// How often more than usual a request for a manifest or a config is tried (`--image-download-retry`).
    pub download_retries: u32,
    /// How often more than usual a layer is asked for (`--image-fs-extract-retry`), if that is more than the number above.
    pub layer_retries: u32,
    /// A tag that is there and that the registry keeps as it is counts as pushed
    /// (`--push-ignore-immutable-tag-errors`).
    pub ignores_immutable_tags: bool,
}

type OnWarning = Arc<dyn Fn(&str) + Send + Sync>;

/// What clones, and the layers of pulled images, share.
pub(crate) struct Client {
    pub(crate) transport: Transport,
    pub(crate) credentials: Credentials,
    pub(crate) routes: Routes,
    pub(crate) settings: Settings,
    on_warning: Option<OnWarning>,
    progress: ProgressTeller,
    /// The `https` or `http` URL of hosts for which that had to be tried out.
    bases: Slots<String, Url>,
    /// The `Authorization` that was made last.
    authorizations: Mutex<BTreeMap<Endpoint, Slot<Secret>>>,
    manifests: Slots<Reference, Fetched>,
    images: Slots<(Reference, Platform), ResolvedImage>,
    /// Blobs that are in a repository, and how they got there.
    delivered: Slots<(Endpoint, Digest), Delivery>,
}

/// How a blob got into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was there.
    Found,
    /// The registry took it from another repository.
    Mounted,
    Sent,
}

impl Registry {
    /// A client that has asked nothing yet.
    pub fn new(transport: Transport, credentials: Credentials, routes: Routes) -> Self {
        let client = Client {
            transport,
            credentials,
            routes,
            settings: Settings::default(),
            on_warning: None,
            progress: ProgressTeller::default(),
            bases: Slots::default(),
            authorizations: Mutex::default(),
            manifests: Slots::default(),
            images: Slots::default(),
            delivered: Slots::default(),
        };
        Self { client: Arc::new(client) }
    }

    /// Behaves as `settings` say. To be called before the client is used or cloned; it forgets.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { client: Arc::new(Client { settings, ..self.client.without_memory() }) }
    }

    /// Calls `tell` with one line when something goes wrong that does not end the operation, such
    /// as a mirror that fails. To be called before the client is used or cloned; it forgets.
    #[must_use]
    pub fn with_warnings(self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let client = Client { on_warning: Some(Arc::new(tell)), ..self.client.without_memory() };
        Self { client: Arc::new(client) }
    }

    /// Calls `tell` about every blob that is on its way for longer than `every`, each time that so much more time has passed.
    /// To be called before the client is used or cloned; it forgets.
    #[must_use]
    pub fn with_progress(
        self,
        every: Duration,
        tell: impl Fn(&Progress) + Send + Sync + 'static,
    ) -> Self {
        let progress = ProgressTeller { tell: Some(Arc::new(tell)), every };
        Self { client: Arc::new(Client { progress, ..self.client.without_memory() }) }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("credentials", &self.client.credentials)
            .field("routes", &self.client.routes)
            .finish_non_exhaustive()
    }
}

impl Client {
    fn without_memory(&self) -> Self {
        Self {
            transport: self.transport.clone(),
            credentials: self.credentials.clone(),
            routes: self.routes.clone(),
            settings: self.settings,
            on_warning: self.on_warning.clone(),
            progress: self.progress.clone(),
            bases: Slots::default(),
            authorizations: Mutex::default(),
            manifests: Slots::default(),
            images: Slots::default(),
            delivered: Slots::default(),
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        if let Some(tell) = &self.on_warning {
            tell(text);
        }
    }

    /// What watches a blob on its way.
    pub(crate) fn meter(
        &self,
        direction: Direction,
        digest: Option<Digest>,
        total: Option<u64>,
    ) -> Meter {
        Meter::new(&self.progress, direction, digest, total)
    }

    pub(crate) fn bases(&self) -> &Slots<String, Url> {
        &self.bases
    }

    pub(crate) fn manifests(&self) -> &Slots<Reference, Fetched> {
        &self.manifests
    }

    pub(crate) fn images(&self) -> &Slots<(Reference, Platform), ResolvedImage> {
        &self.images
    }

    pub(crate) fn delivered(&self) -> &Slots<(Endpoint, Digest), Delivery> {
        &self.delivered
    }

    /// The `Authorization` to try first.
    pub(crate) fn authorization(&self, endpoint: &Endpoint) -> Option<Secret> {
        lock(&self.authorization_slot(endpoint)).clone()
    }

    /// The `Authorization` to try after `refused`: one that another thread has got in the
    /// meantime, or what `make` makes, while the other threads wait for it.
    pub(crate) fn next_authorization<E>(
        &self,
        endpoint: &Endpoint,
        refused: Option<&Secret>,
        make: impl FnOnce() -> Result<Option<Secret>, E>,
    ) -> Result<Option<Secret>, E> {
        let slot = self.authorization_slot(endpoint);
        let mut current = lock(&slot);
        if current.is_none() || current.as_ref() == refused {
            *current = make()?;
        }
        Ok(current.clone())
    }

    fn authorization_slot(&self, endpoint: &Endpoint) -> Slot<Secret> {
        Arc::clone(lock(&self.authorizations).entry(endpoint.clone()).or_default())
    }
}

type Slot<V> = Arc<Mutex<Option<V>>>;

/// Values that are found once, however many threads ask for them at the same time.
pub(crate) struct Slots<K, V> {
    slots: Mutex<BTreeMap<K, Finding<V>>>,
    changed: Condvar,
}

/// Whether a value is known.
enum Finding<V> {
    /// Somebody is looking for it.
    UnderWay,
    Found(V),
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default(), changed: Condvar::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Slots<K, V> {
    /// The value for `key`; `find` runs at most once at a time for one key, and not again after it
    /// has succeeded.
    pub(crate) fn get_or_find<E>(
        &self,
        key: &K,
        find: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        /// A panic must not leave the others waiting.
        struct Looking<'s, K: Ord, V> {
            slots: &'s Slots<K, V>,
            key: &'s K,
            found: Option<V>,
        }
        impl<K: Ord, V> Drop for Looking<'_, K, V> {
            fn drop(&mut self) {
                self.slots.settle(self.key, self.found.take());
            }
        }
        let mut slots = lock(&self.slots);
        loop {
            match slots.get(key) {
                Some(Finding::Found(value)) => return Ok(value.clone()),
                Some(Finding::UnderWay) => {
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        slots.insert(key.clone(), Finding::UnderWay);
        drop(slots);
        let mut looking = Looking { slots: self, key, found: None };
        let found = find()?;
        looking.found = Some(found.clone());
        Ok(found)
    }

    /// Takes it upon the caller to find the value for `key`, which everybody waits for until [`Slots::settle`] is called.
    /// `false` if it is known or somebody else is looking for it.
    pub(crate) fn claim(&self, key: &K) -> bool {
        let mut slots = lock(&self.slots);
        let is_free = !slots.contains_key(key);
        if is_free {
            slots.insert(key.clone(), Finding::UnderWay);
        }
        is_free
    }
}

impl<K: Ord + Clone, V> Slots<K, V> {
    /// The keys among those that `is_meant` whose values are known.
    pub(crate) fn known(&self, is_meant: impl Fn(&K) -> bool) -> Vec<K> {
        let slots = lock(&self.slots);
        let known = slots.iter().filter(|(_, finding)| matches!(finding, Finding::Found(_)));
        known.map(|(key, _)| key).filter(|key| is_meant(key)).cloned().collect()
    }

    /// Waits until nobody is looking for the value of a key that `is_meant`. Not for who has claimed one of them.
    pub(crate) fn wait_for(&self, is_meant: impl Fn(&K) -> bool) {
        let mut slots = lock(&self.slots);
        let is_under_way = |slots: &BTreeMap<K, Finding<V>>| {
            slots.iter().any(|(key, finding)| matches!(finding, Finding::UnderWay) && is_meant(key))
        };
        while is_under_way(&slots) {
            slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<K: Ord, V> Slots<K, V> {
    /// Ends what a claim began. Without a value the next one who wants it looks again.
    pub(crate) fn settle(&self, key: &K, value: Option<V>) {
        let mut slots = lock(&self.slots);
        match (slots.get_mut(key), value) {
            (Some(slot), Some(value)) => *slot = Finding::Found(value),
            (Some(Finding::UnderWay), None) => drop(slots.remove(key)),
            (Some(Finding::Found(_)) | None, _) => {}
        }
        drop(slots);
        self.changed.notify_all();
    }
}

/// A panic elsewhere leaves what this crate guards as it was, so poison means nothing here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_asks_while_somebody_looks_gets_what_is_found() {
        let slots: Slots<u8, u8> = Slots::default();
        assert!(slots.claim(&1) && !slots.claim(&1));
        let got = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| slots.get_or_find(&1, || Ok::<_, ()>(0)));
            std::thread::sleep(Duration::from_millis(20));
            slots.settle(&1, Some(7));
            waiting.join().unwrap()
        });
        assert_eq!(got, Ok(7));
        slots.settle(&1, None);
        assert_eq!(slots.get_or_find(&1, || Err(())), Ok(7), "what is known stays known");
    }

    #[test]
    fn what_is_under_way_can_be_waited_for_by_who_does_not_need_it() {
        let slots: Slots<u8, u8> = Slots::default();
        slots.wait_for(|_| true);
        assert!(slots.claim(&1) && slots.claim(&2));
        slots.wait_for(|key| *key == 3);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                slots.wait_for(|key| *key == 1);
                slots.known(|key| *key < 3)
            });
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            slots.settle(&1, Some(7));
            assert_eq!(waiting.join().unwrap(), [1], "and for nothing else");
        });
        slots.settle(&2, None);
    }

    #[test]
    fn who_fails_or_panics_leaves_it_to_the_next() {
        let slots: Slots<u8, u8> = Slots::default();
        assert_eq!(slots.get_or_find(&1, || Err("no")), Err("no"));
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| slots.get_or_find(&1, || -> Result<u8, ()> { panic!("on purpose") }))
                .join()
        });
        assert!(panicked.is_err());
        assert!(slots.claim(&1));
        slots.settle(&1, None);
        assert_eq!(slots.get_or_find(&1, || Ok::<_, ()>(3)), Ok(3));
    }
}
