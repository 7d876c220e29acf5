//! One authorized request to one registry.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ebiko_transport::header::{LOCATION, WWW_AUTHENTICATE};
use ebiko_transport::{
    Method, Request, Response, StatusCode, TransportError, TransportErrorKind, Trust, Url,
};

use crate::advice::advice;
use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, CredentialsError, Found, Identity};
use crate::registry::Client;
use crate::routes::{Access, Endpoint};
use ebiko_cloud::{Secret, error_text, is_loopback, one_line};

/// How long the other side may take to show whether it speaks TLS.
const PROBE: Duration = Duration::from_secs(10);

/// How often a request is repeated because another thread's proof was not good enough. There are fewer threads.
const PROOFS: usize = 8;

/// A registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExchangeError {
    #[error("`{registry}` cannot be reached")]
    Transport { registry: String, source: Box<TransportError> },
    #[error("`{registry}` speaks neither https ({https}) nor http")]
    NoProtocol { registry: String, https: String, source: Box<TransportError> },
    #[error("cannot log in to `{registry}`")]
    Credentials { registry: String, source: CredentialsError },
    #[error("`{registry}` denies {access} `{repository}` {who}: {answer}")]
    Denied {
        registry: String,
        repository: String,
        access: &'static str,
        who: Box<Identity>,
        answer: String,
    },
    #[error("`{registry}` wants to see credentials of an unknown kind")]
    Challenge { registry: String },
    #[error("the token service of `{registry}` {problem}")]
    Token { registry: String, problem: String, source: Option<Box<TransportError>> },
    #[error("`{registry}` answers {status} to {what}{}", Colon(answer))]
    Status {
        registry: String,
        what: &'static str,
        status: StatusCode,
        answer: String,
        /// How long the registry asks to be left alone.
        wish: Option<Duration>,
    },
    #[error("`{registry}` breaks the protocol: {problem}")]
    Protocol { registry: String, problem: String },
}

/// Text after a colon, or nothing.
struct Colon<'t>(&'t str);

impl fmt::Display for Colon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

impl ExchangeError {
    /// Whether the same may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { source, .. } | Self::NoProtocol { source, .. } => {
                source.is_transient()
            }
            Self::Status { status, .. } => ebiko_transport::is_transient_status(*status),
            _ => false,
        }
    }

    /// Whether the registry, or the token service that it names, could not be asked at all.
    ///
    /// An answer that refuses is an answer, and so is a certificate that is not trusted.
    pub(crate) fn is_unreachable(&self) -> bool {
        let (Self::Transport { source, .. }
        | Self::NoProtocol { source, .. }
        | Self::Token { source: Some(source), .. }) = self
        else {
            return false;
        };
        matches!(
            source.source,
            TransportErrorKind::NoName { .. }
                | TransportErrorKind::CannotConnect { .. }
                | TransportErrorKind::TimedOut { .. }
                | TransportErrorKind::Broken { .. }
        )
    }

    /// How long the registry asks to be left alone.
    pub(crate) fn wish(&self) -> Option<Duration> {
        match self {
            Self::Status { wish, .. } => *wish,
            _ => None,
        }
    }

    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Transport { registry, source } if source.is_not_tls() => Some(format!(
                "`{registry}` may speak plain http; allow it with --insecure-registry={registry}"
            )),
            Self::Transport { source, .. } | Self::Token { source: Some(source), .. } => {
                advice(source)
            }
            Self::Denied { registry, who, .. } if who.is_anonymous() => Some(format!(
                "put credentials for `{registry}` into the docker config, under `auths`, for example with \
                 `executor login {registry}`"
            )),
            _ => None,
        }
    }
}

/// A repository at one endpoint, ready for requests.
pub(crate) struct Session<'c> {
    pub(crate) client: &'c Client,
    pub(crate) endpoint: &'c Endpoint,
    /// `https://host:port/`.
    base: Url,
    found: Found,
}

impl<'c> Session<'c> {
    pub(crate) fn new(client: &'c Client, endpoint: &'c Endpoint) -> Result<Self, ExchangeError> {
        let Endpoint { registry, repository, access, .. } = endpoint;
        let found = client
            .credentials
            .find(&client.transport, *access, registry, repository)
            .map_err(|source| ExchangeError::Credentials { registry: registry.clone(), source })?;
        for warning in &found.warnings {
            client.warn(&format!("`{registry}`: {warning}"));
        }
        let base = base_url(client, endpoint)?;
        Ok(Self { client, endpoint, base, found })
    }

    /// A request for `path` below `/v2/<repository>/`.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<Request, ExchangeError> {
        let path = format!("/v2/{}/{path}", self.endpoint.repository);
        let url = self.base.join(&path).map_err(|_| self.protocol("its name makes no URL"))?;
        Ok(Request::new(method, url))
    }

    /// Where a response says to go on: relative to the URL that responded. `None` if it does not say.
    pub(crate) fn location(&self, response: &Response) -> Result<Option<Url>, ExchangeError> {
        let Some(location) = response.header(LOCATION) else { return Ok(None) };
        let url = response.url().join(location);
        url.map(Some).map_err(|_| self.protocol("its `Location` is not a URL"))
    }

    /// A request to where the registry says, which is bound by the rules for what a server names.
    pub(crate) fn request_to(&self, method: Method, url: Url) -> Request {
        Request::new(method, url).with_trust(Trust::Server { chosen: self.base.clone() })
    }

    /// How often something is to be tried in all.
    pub(crate) fn attempts(&self) -> u32 {
        self.client.transport.attempts().saturating_add(self.extra_attempts())
    }

    /// How often more than usual.
    fn extra_attempts(&self) -> u32 {
        let settings = &self.client.settings;
        match self.endpoint.access {
            Access::Pull => settings.download_retries,
            Access::Push => settings.push_retries,
        }
    }

    /// Waits after failed attempt number `attempt` (from 1).
    pub(crate) fn pause(&self, attempt: u32, error: &ExchangeError) {
        self.client.transport.pause(&self.base, attempt, &one_line(error), error.wish());
    }

    /// Sends `request`, proving who we are where that is asked for.
    ///
    /// Credentials go to the registry's own origin only: an upload location or a redirect
    /// elsewhere carries its own proof in its URL. `what` is for the error.
    pub(crate) fn send(&self, request: &Request, what: &str) -> Result<Response, ExchangeError> {
        let mut shown = self.known(request);
        let mut response = self.send_as(request, shown.as_ref())?;
        for _ in 0..PROOFS {
            if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(request) {
                break;
            }
            let mut is_ours = false;
            let next = self.client.next_authorization(self.endpoint, shown.as_ref(), || {
                is_ours = true;
                self.answer_challenge(&response)
            })?;
            if next.is_none() || next == shown {
                break;
            }
            response = self.send_as(request, next.as_ref())?;
            // One that another thread has got may be good for less: a token for a mount names the other repository.
            if is_ours {
                break;
            }
            shown = next;
        }
        self.allowed(response, what)
    }

    /// Sends `request` once, with what proved who we are before, and does not mind what comes of it.
    pub(crate) fn send_and_forget(&self, mut request: Request) {
        request.is_repeatable = false;
        drop(self.send_as(&request, self.known(&request).as_ref()));
    }

    fn is_own(&self, request: &Request) -> bool {
        request.url.origin() == self.base.origin()
    }

    /// The `Authorization` to try first, for a request to the registry's own origin.
    fn known(&self, request: &Request) -> Option<Secret> {
        let known = match (&self.found.credential, self.client.authorization(self.endpoint)) {
            (_, Some(known)) => Some(known),
            (Some(Credential::Bearer { token }), None) => {
                Some(Secret::new(format!("Bearer {}", token.reveal())))
            }
            _ => None,
        };
        known.filter(|_| self.is_own(request))
    }

    fn send_as(
        &self,
        request: &Request,
        authorization: Option<&Secret>,
    ) -> Result<Response, ExchangeError> {
        let mut request = request.clone();
        request.extra_attempts = request.extra_attempts.max(self.extra_attempts());
        request.verification = self.endpoint.verification;
        if let Some(authorization) = authorization {
            request = request.with_authorization(authorization.reveal()).map_err(|_| {
                self.protocol("the credentials hold a byte that no header may hold")
            })?;
        }
        self.client.transport.send(&request).map_err(|source| self.unreachable(source))
    }

    /// Turns a refusal into an error that says who was refused.
    fn allowed(&self, response: Response, what: &str) -> Result<Response, ExchangeError> {
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied(response, what)),
            _ => Ok(response),
        }
    }

    /// The `Authorization` that the registry asked for, or `None` where there is nothing to show.
    fn answer_challenge(&self, response: &Response) -> Result<Option<Secret>, ExchangeError> {
        let values = response.headers().get_all(WWW_AUTHENTICATE);
        let values: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return Ok(None);
        }
        match (challenge::choose(values.into_iter()), &self.found.credential) {
            (Some(Challenge::Basic), Some(Credential::Basic { user, password })) => {
                Ok(Some(basic(user, password)))
            }
            (Some(Challenge::Basic), _) => Ok(None),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                let token = self.fetch_token(&realm, service.as_deref(), scope.as_deref())?;
                Ok(Some(Secret::new(format!("Bearer {}", token.reveal()))))
            }
            (None, _) => Err(ExchangeError::Challenge { registry: self.endpoint.registry.clone() }),
        }
    }

    pub(crate) fn credential(&self) -> Option<&Credential> {
        self.found.credential.as_ref()
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The error for a response that is not one of those that were expected.
    pub(crate) fn status(&self, response: Response, what: &'static str) -> ExchangeError {
        ExchangeError::Status {
            registry: self.endpoint.registry.clone(),
            what,
            status: response.status(),
            wish: ebiko_transport::retry_after(response.headers()),
            answer: error_text(response),
        }
    }

    pub(crate) fn denied(&self, response: Response, what: &str) -> ExchangeError {
        let who = Box::new(self.found.who.clone());
        let status = response.status();
        let answer = match error_text(response) {
            text if text.is_empty() => format!("{status} to {what}"),
            text => text,
        };
        ExchangeError::Denied {
            registry: self.endpoint.registry.clone(),
            repository: self.endpoint.repository.clone(),
            access: match self.endpoint.access {
                Access::Pull => "pulling",
                Access::Push => "pushing to",
            },
            who,
            answer,
        }
    }

    pub(crate) fn protocol(&self, problem: impl Into<String>) -> ExchangeError {
        ExchangeError::Protocol {
            registry: self.endpoint.registry.clone(),
            problem: problem.into(),
        }
    }

    pub(crate) fn unreachable(&self, source: TransportError) -> ExchangeError {
        let source = Box::new(source);
        ExchangeError::Transport { registry: self.endpoint.registry.clone(), source }
    }
}

/// `Basic` with user and password.
pub(crate) fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
}

/// Where the registry's API is.
///
/// That is `https`, unless the user allowed plain `http` for it, or it is on loopback, where
/// there is nobody to listen in. Then `https` is tried first, without credentials, and `http` is
/// taken only if nothing there speaks TLS.
fn base_url(client: &Client, endpoint: &Endpoint) -> Result<Url, ExchangeError> {
    let host = endpoint.api_host();
    let url = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/")).map_err(|_| ExchangeError::Protocol {
            registry: endpoint.registry.clone(),
            problem: "its name makes no URL".into(),
        })
    };
    let https = url("https")?;
    if !endpoint.is_insecure && !is_loopback(&https) {
        return Ok(https);
    }
    client.bases().get_or_find(&host.to_owned(), || {
        let mut attempt = 1;
        loop {
            match probe(client, endpoint, &https, &url("http")?) {
                Err(error) if error.is_transient() && attempt < client.transport.attempts() => {
                    client.transport.pause(&https, attempt, &one_line(&error), None);
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    })
}

/// The first of the two that answers.
fn probe(
    client: &Client,
    endpoint: &Endpoint,
    https: &Url,
    http: &Url,
) -> Result<Url, ExchangeError> {
    let registry = || endpoint.registry.clone();
    let ask = |base: &Url| {
        let mut request = Request::get(base.join("/v2/").unwrap_or_else(|_| base.clone()));
        request.deadline = Some(PROBE);
        request.verification = endpoint.verification;
        request.is_repeatable = false;
        request.follows_redirects = false;
        client.transport.send(&request)
    };
    let Err(error) = ask(https) else { return Ok(https.clone()) };
    let is_bad_certificate =
        matches!(error.source, TransportErrorKind::Tls { .. }) && !error.is_not_tls();
    // A server that speaks TLS and shows a wrong certificate is not a plain one, and a name that
    // is not there will not be there for the other protocol.
    if is_bad_certificate || matches!(error.source, TransportErrorKind::NoName { .. }) {
        return Err(ExchangeError::Transport { registry: registry(), source: Box::new(error) });
    }
    match ask(http) {
        Ok(_) => Ok(http.clone()),
        Err(source) => Err(ExchangeError::NoProtocol {
            registry: registry(),
            https: error.source.to_string(),
            source: Box::new(source),
        }),
    }
}
