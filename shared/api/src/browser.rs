//! The endpoints that a user's browser visits: the page before the provider, the callback, the built-in return page (D12).

use agent_identity_core::consent::SessionUri;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::{Error, Id, Secret, random};
use agent_identity_service::consent::{
    AUTHORIZE_PATH, Arrival, CALLBACK_PATH, ConsentPage, Departure, ProviderReturn,
};
use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use url::form_urlencoded;

use crate::Api;
use crate::gate::read_body;

/// The page before the provider.
#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentTemplate<'a> {
    nonce: &'a str,
    action: &'a str,
    request_uri: &'a str,
    page: &'a ConsentPage,
}

/// A page that only says something.
#[derive(Template)]
#[template(path = "message.html")]
struct MessageTemplate<'a> {
    nonce: &'a str,
    title: &'a str,
    message: &'a str,
}

/// One query or form parameter; `None` when it is absent or given more than once (RFC 6749 §3.1).
fn parameter(query: &[u8], name: &str) -> Option<String> {
    let mut values = form_urlencoded::parse(query).filter(|(key, _)| key == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.into_owned()),
        _ => None,
    }
}

/// The page's own headers: never framed, never a script, styles by nonce only. `form-action` is left open, since browsers
/// hold every redirect after the form to it, and the provider's are not known.
fn html(api: &Api, status: StatusCode, render: impl FnOnce(&str) -> askama::Result<String>) -> Response {
    let nonce = random::handle(&*api.services.ports().random);
    let Ok(body) = render(&nonce) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let policy =
        format!("default-src 'none'; style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: that would make the form's Origin `null`, and the form is only taken from our own.
    set(header::REFERRER_POLICY, "same-origin");
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn message(api: &Api, status: StatusCode, title: &str, message: &str) -> Response {
    html(api, status, |nonce| MessageTemplate { nonce, title, message }.render())
}

fn failed(api: &Api, error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::Validation => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Throttling => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    };
    let detail = error.detail().unwrap_or_default();
    tracing::info!(status = status.as_u16(), error = error.message(), detail, "a browser was refused");
    message(api, status, "This did not work", error.message())
}

/// Gives the browser its cookie.
fn remember(api: &Api, response: &mut Response, cookie: &Secret) {
    if let Some(cookie) = set_cookie(api, cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// 302 after a GET, as AWS answers; 303 after a POST (RFC 9700 §4.12).
fn redirect(status: StatusCode, location: &Secret) -> Response {
    let Ok(location) = HeaderValue::from_str(location.expose()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = status.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn secure(api: &Api) -> bool {
    api.services.config().public_base_url.starts_with("https://")
}

/// `__Host-` on https: the cookie is then ours alone, whatever else lives below the domain (RFC 6265bis §4.1.3.2).
fn cookie_name(api: &Api) -> &'static str {
    if secure(api) { "__Host-agent-identity-consent" } else { "agent-identity-consent" }
}

fn cookie(api: &Api, headers: &HeaderMap) -> Option<Secret> {
    let name = cookie_name(api);
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(Secret::new(value)),
        _ => None,
    }
}

fn set_cookie(api: &Api, value: &Secret) -> Option<HeaderValue> {
    let secure = if secure(api) { "; Secure" } else { "" };
    let life = api.services.consent_cookie_seconds();
    let text = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}",
        cookie_name(api),
        value.expose()
    );
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn session_uri(query: &[u8], name: &str) -> Result<SessionUri, Error> {
    let text = parameter(query, name).ok_or_else(|| {
        Error::field(name, "is missing or given twice: open the link exactly as you got it")
    })?;
    SessionUri::parse(&text).map_err(|message| Error::field(name, message))
}

/// `GET /identities/oauth2/authorize`: shows who asks for what, and gives the browser a cookie, so that two clicks on the page are
/// known to be one browser's. Changes nothing here, unless the caller has a page of its own.
pub(crate) async fn open(
    State(api): State<Api>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let uri = match session_uri(query.as_bytes(), "request_uri") {
        Ok(uri) => uri,
        Err(error) => return failed(&api, &error),
    };
    let sent = cookie(&api, &headers);
    match api.services.open_consent_page(&uri, sent.as_ref()).await {
        Ok(Arrival::Page(page)) => {
            let mut response = html(&api, StatusCode::OK, |nonce| {
                let request_uri = uri.as_str();
                ConsentTemplate { nonce, action: AUTHORIZE_PATH, request_uri, page: &page }.render()
            });
            remember(&api, &mut response, &api.services.browser_cookie(sent.as_ref()));
            response
        }
        Ok(Arrival::GoOn) if method == Method::GET => depart(&api, StatusCode::FOUND, &uri, &headers).await,
        Ok(Arrival::GoOn) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Err(error) => failed(&api, &error),
    }
}

/// `POST /identities/oauth2/authorize`: the user goes on; this browser is bound.
pub(crate) async fn begin(State(api): State<Api>, headers: HeaderMap, body: axum::body::Body) -> Response {
    let body = match read_body(&api, body).await {
        Ok(body) => body,
        Err(failure) => return message(&api, failure.status, "This did not work", &failure.message),
    };
    if let Err(error) = from_our_page(&api, &headers) {
        return failed(&api, &error);
    }
    match session_uri(&body, "request_uri") {
        Ok(uri) => depart(&api, StatusCode::SEE_OTHER, &uri, &headers).await,
        Err(error) => failed(&api, &error),
    }
}

/// The form is taken from our own page only: another site must not send a user past the page that says who asks.
fn from_our_page(api: &Api, headers: &HeaderMap) -> Result<(), Error> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = || {
        Error::new(
            ErrorKind::AccessDenied,
            "this form was sent by another site; open the link that the application gave you",
        )
    };
    if let Some(site) = text(&HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Err(foreign());
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = text(&header::HOST).unwrap_or_default().to_ascii_lowercase();
    let ours =
        [format!("http://{host}"), format!("https://{host}"), api.services.config().public_base_url.clone()];
    match origin.to_str() {
        Ok(origin) if ours.iter().any(|ours| ours == origin) => Ok(()),
        _ => Err(foreign()),
    }
}

async fn depart(api: &Api, status: StatusCode, uri: &SessionUri, headers: &HeaderMap) -> Response {
    match api.services.begin_consent(uri, cookie(api, headers).as_ref()).await {
        Ok(Departure { location, cookie }) => {
            let mut response = redirect(status, &location);
            remember(api, &mut response, &cookie);
            response
        }
        Err(error) => failed(api, &error),
    }
}

/// What the provider sent with the browser; `None` without a state, or when the path names no provider.
fn provider_return(provider: &str, query: &[u8]) -> Option<ProviderReturn> {
    Some(ProviderReturn {
        provider: Id::parse_hyphenated(provider)?,
        state: Secret::new(parameter(query, "state")?),
        code: parameter(query, "code").map(Secret::new),
        issuer: parameter(query, "iss"),
        error: parameter(query, "error"),
    })
}

/// `GET /identities/oauth2/callback/PROVIDER`: the provider sends the browser back.
pub(crate) async fn callback(
    State(api): State<Api>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let provider = uri.path().strip_prefix(CALLBACK_PATH).unwrap_or_default();
    let Some(answer) = provider_return(provider, query.unwrap_or_default().as_bytes()) else {
        let error = Error::field("state", "is missing, or this is no provider's callback");
        return failed(&api, &error);
    };
    let cookie = cookie(&api, &headers);
    match api.services.return_from_provider(answer, cookie.as_ref()).await {
        Ok(location) => redirect(StatusCode::FOUND, &location),
        Err(error) => failed(&api, &error),
    }
}

/// `GET /identities/oauth2/return`: the built-in page, which completes the session by itself on loopback, and only there.
pub(crate) async fn returned(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let completed = async {
        let uri = session_uri(query.as_bytes(), "session_id")?;
        api.services.complete_in_browser(&uri, cookie(&api, &headers).as_ref()).await
    };
    match completed.await {
        Ok(()) => {
            message(&api, StatusCode::OK, "Done", "The agent has its access. You can close this window.")
        }
        Err(error) => failed(&api, &error),
    }
}
