//! Bearer tokens: the registry's token service.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/> and, for refresh tokens,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>.

use ebiko_transport::header::{CONTENT_TYPE, HeaderValue};
use ebiko_transport::{Body, Method, Request, StatusCode, Trust, Url};
use serde::Deserialize;

use crate::credentials::Credential;
use crate::session::{ExchangeError, Session, basic};
use ebiko_cloud::{Secret, error_text};

/// Tokens of large organisations list many groups; 1 MiB is beyond any header limit.
const TOKEN_LIMIT: usize = 1024 * 1024;

const CLIENT_ID: &str = "ebiko";

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session<'_> {
    /// Asks the token service at `realm` for a token.
    ///
    /// The realm is the registry's choice and is bound by the rules for such: never from `https` to
    /// `http`, and no private address unless it is the registry's own host.
    pub(crate) fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Secret, ExchangeError> {
        let registry = &self.endpoint.registry;
        let problem = |problem: String| ExchangeError::Token {
            registry: registry.clone(),
            problem,
            source: None,
        };
        let url = self
            .base()
            .join(realm)
            .map_err(|_| problem(format!("is at `{realm}`, which is not a URL")))?;
        let scopes = self.scopes(scope);
        let request = match self.credential() {
            Some(Credential::Identity { token }) => refresh(url, service, &scopes, token),
            credential => ask(url, service, &scopes, credential)
                .map_err(|()| problem("cannot be shown credentials that fit no header".into()))?,
        };
        let mut request = request.with_trust(Trust::Server { chosen: self.base().clone() });
        request.verification = self.endpoint.verification;
        let failed = |source| ExchangeError::Token {
            registry: registry.clone(),
            problem: "cannot be asked".into(),
            source: Some(Box::new(source)),
        };
        let response = self.client.transport.send(&request).map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.denied(response, "the request for a token"));
            }
            status => {
                let text = error_text(response);
                let colon = if text.is_empty() { "" } else { ": " };
                return Err(problem(format!("answers {status}{colon}{text}")));
            }
        }
        let body = response.into_bytes(TOKEN_LIMIT).map_err(failed)?;
        // The JSON error could quote the token.
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| problem("answers something that is not JSON".into()))?;
        let token = [answer.token, answer.access_token].into_iter().flatten();
        let token = token.filter(|token| !token.is_empty()).map(Secret::new).next();
        token.ok_or_else(|| problem("answers without a token".into()))
    }

    /// What the token is to be good for: what we are about to do, and what the registry asked for
    /// where that is something else.
    fn scopes(&self, challenged: Option<&str>) -> Vec<String> {
        let resource = format!("repository:{}:", self.endpoint.repository);
        let mut scopes = vec![format!("{resource}{}", self.endpoint.access.actions())];
        let others = challenged.unwrap_or_default().split(' ');
        let is_other = |scope: &&str| !scope.is_empty() && !scope.starts_with(&resource);
        scopes.extend(others.filter(is_other).map(str::to_owned));
        scopes
    }
}

/// The usual way: `GET` with user and password, or without either for an anonymous token.
fn ask(
    mut url: Url,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Request, ()> {
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(service.map(|service| ("service", service)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        if let Some(Credential::Basic { user, .. }) = credential {
            query.append_pair("account", user);
        }
    }
    let request = Request::get(url);
    match credential {
        Some(Credential::Basic { user, password }) => {
            request.with_authorization(basic(user, password).reveal()).map_err(drop)
        }
        _ => Ok(request),
    }
}

/// `POST` with a refresh token. The token is in the body, so redirects are not followed.
fn refresh(url: Url, service: Option<&str>, scopes: &[String], token: &Secret) -> Request {
    let mut form = url.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token.reveal());
    let body = form.query().unwrap_or_default().as_bytes().to_vec();
    let mut request = Request::new(Method::POST, url)
        .with_header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .with_body(Body::Bytes(body));
    request.follows_redirects = false;
    // Asking twice for a token does no harm.
    request.is_repeatable = true;
    request
}
