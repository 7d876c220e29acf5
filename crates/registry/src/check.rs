//! Whether what will be pushed may be pushed, asked before anything is built.

use std::collections::BTreeMap;
use std::thread;

use ebiko_oci::Reference;

use crate::push::{PushError, PushErrorKind};
use crate::registry::{Client, Registry};
use crate::routes::Endpoint;
use crate::session::{ExchangeError, Session};
use crate::upload::Upload;

/// So many repositories are asked at the same time.
const PARALLEL: usize = 8;

impl Registry {
    /// Finds out whether the repositories of `destinations` take an upload: begins one in each, with the credentials of the
    /// push, and cancels it.
    ///
    /// # Errors
    ///
    /// Tells of the first destination whose repository refuses or cannot be reached.
    pub fn check_push(&self, destinations: &[Reference]) -> Result<(), PushError> {
        let mut repositories: BTreeMap<Endpoint, &Reference> = BTreeMap::new();
        for destination in destinations {
            let endpoint = self.client.routes.for_push(destination);
            repositories.entry(endpoint).or_insert(destination);
        }
        // As the user wrote them, so that it is the first of several errors that is told.
        let mut repositories: Vec<_> = repositories.into_iter().collect();
        let place = |wanted: &Reference| destinations.iter().position(|given| given == wanted);
        repositories.sort_by_key(|(_, destination)| place(destination));
        for some in repositories.chunks(PARALLEL) {
            let outcomes: Vec<Result<(), ExchangeError>> = thread::scope(|scope| {
                let ask = |endpoint| move || check(&self.client, endpoint);
                let threads: Vec<_> =
                    some.iter().map(|(endpoint, _)| scope.spawn(ask(endpoint))).collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
            });
            for (outcome, (_, destination)) in outcomes.into_iter().zip(some) {
                outcome.map_err(|error| PushError {
                    destination: destination.to_string(),
                    source: PushErrorKind::Check(Box::new(error)),
                })?;
            }
        }
        Ok(())
    }
}

fn check(client: &Client, endpoint: &Endpoint) -> Result<(), ExchangeError> {
    let session = Session::new(client, endpoint)?;
    Upload::begin(&session)?.cancel(&session);
    Ok(())
}
