//! Requests to the server of one repository.

use std::cell::RefCell;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use ebiko_transport::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use ebiko_transport::{Body, Method, Request, Response, Trust, Url, Verification};

use super::address::{Address, Location};
use super::authorization::Authorization;
use super::packet::{self, Said};
use super::smart::MAX_NAMES;
use super::ssh_address::SshAddress;
use super::store::Store;
use super::{GitErrorKind, Limits};
use crate::Network;
use crate::ssh::{SshError, SshFault, SshStream};

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
const INFO_REFS: &str = "info/refs";

/// The version of the protocol that is asked for.
const VERSION: &str = "version=2";

/// One repository's server, and who we are to it.
pub(crate) struct Server<'a> {
    pub(crate) network: &'a Network<'a>,
    pub(crate) limits: &'a Limits,
    way: Way,
}

/// How a server is spoken with.
enum Way {
    /// Each question is a request of its own.
    Web(RefCell<Web>),
    /// All questions go through one connection.
    Ssh { address: SshAddress, stream: RefCell<Option<Box<dyn SshStream>>> },
}

/// A server that speaks HTTP.
struct Web {
    address: Address,
    trust: Trust,
    verification: Verification,
}

/// What a server answers when it is asked what it has.
pub(crate) enum Greeting<'s> {
    /// It knows git.
    Git(Box<dyn Read + 's>),
    /// It has the file of this content and knows nothing of git.
    File(Vec<u8>),
}

impl<'a> Server<'a> {
    /// `authorization` goes to the host of `location` only; what `location` itself has wins.
    pub(crate) fn new(
        network: &'a Network<'a>,
        limits: &'a Limits,
        location: Location,
        authorization: Option<&Authorization>,
        trust: Trust,
    ) -> Self {
        let way = match location {
            Location::Web(address) => {
                let authorization =
                    address.authorization.clone().or_else(|| authorization.cloned());
                let address = Address { authorization, ..address };
                Way::Web(RefCell::new(Web { address, trust, verification: Verification::Always }))
            }
            Location::Ssh(address) => Way::Ssh { address, stream: RefCell::default() },
        };
        Self { network, limits, way }
    }

    /// Says whose certificates are verified.
    pub(crate) fn with_verification(mut self, verification: Verification) -> Self {
        if let Way::Web(web) = &mut self.way {
            web.get_mut().verification = verification;
        }
        self
    }

    /// Asks what the repository has, in the second version of the protocol if possible. A server
    /// that only knows files gives the file.
    ///
    /// Where the answer comes from is where everything else is asked.
    pub(crate) fn discover(&self) -> Result<Greeting<'_>, GitErrorKind> {
        const TYPE: &str = "application/x-git-upload-pack-advertisement";
        self.check_interrupt()?;
        match &self.way {
            Way::Web(web) => {
                let response = web.borrow_mut().discover(self.network)?;
                if response.header(CONTENT_TYPE) == Some(TYPE) {
                    Ok(Greeting::Git(Box::new(response)))
                } else {
                    Ok(Greeting::File(response.into_bytes(MAX_NAMES)?))
                }
            }
            Way::Ssh { address, stream } => {
                connect(self.network, address, stream)?;
                Ok(Greeting::Git(Box::new(Answer { stream, is_begun: false })))
            }
        }
    }

    /// Sends a message to `git-upload-pack`. Over SSH the answer to the message before has been read to its end.
    pub(crate) fn ask(
        &self,
        message: Vec<u8>,
        is_second: bool,
    ) -> Result<Box<dyn Read + '_>, GitErrorKind> {
        self.check_interrupt()?;
        match &self.way {
            Way::Web(web) => Ok(Box::new(web.borrow().ask(self.network, message, is_second)?)),
            Way::Ssh { address, stream } => {
                if stream.borrow().is_none() {
                    connect(self.network, address, stream)?;
                    let mut greeting = Answer { stream, is_begun: false };
                    while let Some(packet::Packet::Data(_)) =
                        packet::read(&mut greeting).map_err(receive)?
                    {}
                }
                if let Some(stream) = stream.borrow_mut().as_mut() {
                    let sent = stream.write_all(&message).and_then(|()| stream.flush());
                    sent.map_err(|_| GitErrorKind::Ssh(stream.end()))?;
                }
                Ok(Box::new(Answer { stream, is_begun: false }))
            }
        }
    }

    /// Makes the next question one that does not depend on how the last one went: a server that refuses something over SSH
    /// speaks no more.
    pub(crate) fn start_anew(&self) {
        if let Way::Ssh { stream, .. } = &self.way {
            drop(stream.borrow_mut().take());
        }
    }

    /// Asks for one file of the repository; `None` if it is not there.
    pub(crate) fn file(&self, path: &str) -> Result<Option<Response>, GitErrorKind> {
        self.check_interrupt()?;
        let Way::Web(web) = &self.way else { return Ok(None) };
        let web = web.borrow();
        let response = web.send(self.network, Request::get(web.address.below(path)))?;
        match response.status().as_u16() {
            404 | 410 => Ok(None),
            _ => expect_ok(response).map(Some),
        }
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

impl Web {
    fn discover(&mut self, network: &Network<'_>) -> Result<Response, GitErrorKind> {
        let mut url = self.address.below(INFO_REFS);
        url.set_query(Some("service=git-upload-pack"));
        let request = Request::get(url)
            .with_header(GIT_PROTOCOL, HeaderValue::from_static(VERSION))
            .with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let response = self.send(network, request)?;
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

    fn ask(
        &self,
        network: &Network<'_>,
        message: Vec<u8>,
        is_second: bool,
    ) -> Result<Response, GitErrorKind> {
        const TYPE: &str = "application/x-git-upload-pack-request";
        const RESULT: &str = "application/x-git-upload-pack-result";
        let mut request = Request::new(Method::POST, self.address.below("git-upload-pack"))
            .with_header(CONTENT_TYPE, HeaderValue::from_static(TYPE))
            .with_header(ACCEPT, HeaderValue::from_static(RESULT))
            .with_body(Body::Bytes(message));
        // Nothing is changed by asking twice.
        request.is_repeatable = true;
        if is_second {
            request = request.with_header(GIT_PROTOCOL, HeaderValue::from_static(VERSION));
        }
        let response = expect_ok(self.send(network, request)?)?;
        match response.header(CONTENT_TYPE) {
            Some(RESULT) => Ok(response),
            _ => Err(GitErrorKind::NotGit { reason: "the answer is of another type".into() }),
        }
    }

    fn send(&self, network: &Network<'_>, request: Request) -> Result<Response, GitErrorKind> {
        let mut request = request.with_trust(self.trust.clone());
        request.verification = self.verification;
        if let Some(authorization) = &self.address.authorization {
            request = request
                .with_authorization(authorization.expose())
                .map_err(|_| GitErrorKind::Authorization)?;
        }
        Ok(network.transport.send(&request)?)
    }
}

fn connect(
    network: &Network<'_>,
    address: &SshAddress,
    stream: &RefCell<Option<Box<dyn SshStream>>>,
) -> Result<(), GitErrorKind> {
    let connector = network.ssh.ok_or_else(|| {
        let text = "there is no way to a repository over SSH here".into();
        GitErrorKind::Ssh(SshError { fault: SshFault::NoProgram, text })
    })?;
    let connected = connector.connect(&address.destination, &address.command(), VERSION);
    *stream.borrow_mut() = Some(connected.map_err(GitErrorKind::Ssh)?);
    Ok(())
}

/// What comes through a connection after a question.
struct Answer<'s> {
    stream: &'s RefCell<Option<Box<dyn SshStream>>>,
    is_begun: bool,
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Ok(0) };
        let count = stream.read(buffer)?;
        if count == 0 && !self.is_begun && !buffer.is_empty() {
            // Whoever says nothing at all has another way to say why.
            return Err(io::Error::other(stream.end()));
        }
        self.is_begun = true;
        Ok(count)
    }
}

/// What went wrong while a body was read.
pub(crate) fn receive(error: io::Error) -> GitErrorKind {
    let inner = error.get_ref();
    if let Some(Said(message)) = inner.and_then(|inner| inner.downcast_ref()) {
        return GitErrorKind::Said { message: message.clone() };
    }
    match inner.and_then(|inner| inner.downcast_ref::<SshError>()) {
        Some(error) => GitErrorKind::Ssh(error.clone()),
        None => GitErrorKind::Receive { source: error },
    }
}

fn expect_ok(response: Response) -> Result<Response, GitErrorKind> {
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(GitErrorKind::Status { status }),
    }
}
