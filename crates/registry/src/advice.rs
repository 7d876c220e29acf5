//! What a user can do about an error that comes from below.

use std::error::Error;

use ebiko_transport::TransportError;

use crate::pull::PullError;
use crate::push::PushError;
use crate::session::ExchangeError;

/// What the user can do where there is no connection. The host may be another than the registry.
pub(crate) fn advice(error: &TransportError) -> Option<String> {
    let host = error.url.host();
    if error.is_bad_certificate() {
        return Some(format!(
            "give the certificate of its issuer with --registry-certificate={host}=FILE; to go on without knowing who answers, \
             there is --skip-tls-verify-registry={host}"
        ));
    }
    if error.wants_certificate() {
        return Some(format!(
            "it may want to see a certificate of yours: --registry-client-cert={host}=CERTIFICATE,KEY"
        ));
    }
    if let Some(private) = error.private_host() {
        return Some(format!(
            "if `{private}` is yours, such as the storage of the registry, allow it with --registry-redirect={private}"
        ));
    }
    error.hint().map(Into::into)
}

/// The advice of the registry client for whatever failed because of it: looks through the causes of `error`.
pub fn advice_on(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(hint) = own_advice(error) {
            return Some(hint);
        }
        // An `io::Error` stands for the error it wraps and leaves it out of the chain.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The advice of this error, if it is one of ours. A box is an error of its own, and a transparent one hides what is in it.
fn own_advice(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<PushError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<PullError>() {
        return error.hint();
    }
    let exchange = error
        .downcast_ref::<ExchangeError>()
        .or_else(|| error.downcast_ref::<Box<ExchangeError>>().map(|boxed| &**boxed));
    if let Some(error) = exchange {
        return error.hint();
    }
    let transport = error
        .downcast_ref::<TransportError>()
        .or_else(|| error.downcast_ref::<Box<TransportError>>().map(|boxed| &**boxed));
    transport.and_then(advice)
}
