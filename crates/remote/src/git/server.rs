//! Requests to the server of one repository.

use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use ebiko_transport::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use ebiko_transport::{Body, Method, Request, Response, Trust, Url, Verification};

use super::address::Address;
use super::authorization::Authorization;
use super::packet::Said;
use super::store::Store;
use super::{GitErrorKind, Limits};
use crate::Network;

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const INFO_REFS: &str = "info/refs";

/// One repository's server, and who we are to it.
pub(crate) struct Server<'a> {
    pub(crate) network: &'a Network<'a>,
    pub(crate) limits: &'a Limits,
    address: Address,
    trust: Trust,
    verification: Verification,
}

impl<'a> Server<'a> {
    /// `authorization` goes to the host of `address` only; what `address` itself has wins.
    pub(crate) fn new(
        network: &'a Network<'a>,
        limits: &'a Limits,
        address: Address,
        authorization: Option<&Authorization>,
        trust: Trust,
    ) -> Self {
        let authorization = address.authorization.clone().or_else(|| authorization.cloned());
        let verification = Verification::Always;
        Self { network, limits, address: Address { authorization, ..address }, trust, verification }
    }

    /// Says whose certificates are verified.
    pub(crate) fn with_verification(mut self, verification: Verification) -> Self {
        self.verification = verification;
        self
    }

    /// Asks what the repository has, in the second version of the protocol if possible. A server
    /// that only knows files gives the file.
    ///
    /// Where the answer comes from is where everything else is asked.
    pub(crate) fn discover(&mut self) -> Result<Response, GitErrorKind> {
        let mut url = self.address.below(INFO_REFS);
        url.set_query(Some("service=git-upload-pack"));
        let request = Request::get(url)
            .with_header(GIT_PROTOCOL, HeaderValue::from_static("version=2"))
            .with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let response = self.send(request)?;
        self.follow(response.url());
        expect_ok(response)
    }

    /// Moves to where a redirect led, without taking the authorization to another origin.
    fn follow(&mut self, url: &Url) {
        let Some(path) = url.path().strip_suffix(INFO_REFS) else { return };
        let mut moved = url.clone();
        moved.set_path(path.trim_end_matches('/'));
        moved.set_query(None);
        moved.set_fragment(None);
        if moved.origin() != self.address.url.origin() {
            self.address.authorization = None;
        }
        if moved != self.address.url {
            if let Trust::User = self.trust {
                self.trust = Trust::Server { chosen: self.address.url.clone() };
            }
            self.address.url = moved;
        }
    }

    /// Sends a message to `git-upload-pack`.
    pub(crate) fn ask(&self, message: Vec<u8>, is_second: bool) -> Result<Response, GitErrorKind> {
        const TYPE: &str = "application/x-git-upload-pack-request";
        const RESULT: &str = "application/x-git-upload-pack-result";
        let mut request = Request::new(Method::POST, self.address.below("git-upload-pack"))
            .with_header(CONTENT_TYPE, HeaderValue::from_static(TYPE))
            .with_header(ACCEPT, HeaderValue::from_static(RESULT))
            .with_body(Body::Bytes(message));
        // Nothing is changed by asking twice.
        request.is_repeatable = true;
        if is_second {
            request = request.with_header(GIT_PROTOCOL, HeaderValue::from_static("version=2"));
        }
        let response = expect_ok(self.send(request)?)?;
        match response.header(CONTENT_TYPE) {
            Some(RESULT) => Ok(response),
            _ => Err(GitErrorKind::NotGit { reason: "the answer is of another type".into() }),
        }
    }

    /// Asks for one file of the repository; `None` if it is not there.
    pub(crate) fn file(&self, path: &str) -> Result<Option<Response>, GitErrorKind> {
        let response = self.send(Request::get(self.address.below(path)))?;
        match response.status().as_u16() {
            404 | 410 => Ok(None),
            _ => expect_ok(response).map(Some),
        }
    }

    fn send(&self, request: Request) -> Result<Response, GitErrorKind> {
        self.check_interrupt()?;
        let mut request = request.with_trust(self.trust.clone());
        request.verification = self.verification;
        if let Some(authorization) = &self.address.authorization {
            request = request
                .with_authorization(authorization.expose())
                .map_err(|_| GitErrorKind::Authorization)?;
        }
        Ok(self.network.transport.send(&request)?)
    }

    pub(crate) fn check_interrupt(&self) -> Result<(), GitErrorKind> {
        if (self.network.is_interrupted)() { Err(GitErrorKind::Interrupted) } else { Ok(()) }
    }

    /// Writes a body to a file of the store's, within the limit of a pack.
    pub(crate) fn spool(
        &self,
        body: &mut dyn Read,
        store: &mut Store,
    ) -> Result<(PathBuf, std::fs::File), GitErrorKind> {
        let local = |source| GitErrorKind::Write { source };
        let (path, mut file) = store.spool().map_err(local)?;
        let limit = self.limits.pack;
        let mut left = limit;
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.check_interrupt()?;
            let count = match body.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(receive)?,
            };
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            left = left.checked_sub(count as u64).ok_or(GitErrorKind::TooManyBytes { limit })?;
            file.write_all(piece).map_err(local)?;
        }
        Ok((path, file))
    }
}

/// What went wrong while a body was read.
pub(crate) fn receive(error: io::Error) -> GitErrorKind {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Said>()) {
        Some(Said(message)) => GitErrorKind::Said { message: message.clone() },
        None => GitErrorKind::Receive { source: error },
    }
}

fn expect_ok(response: Response) -> Result<Response, GitErrorKind> {
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(GitErrorKind::Status { status }),
    }
}
