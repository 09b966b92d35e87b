//! The authorization endpoint, and the two forms behind it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri, header};
use url::Url;

use agent_identity_core::Secret;

use super::client::GrantType;
use super::grants::{Authorization, CodeTerms};
use super::interaction::{AuthorizationRequest, Interaction, SignedIn, cookie, set_cookie};
use super::parameters::{Parameters, Repeated};
use super::{Inner, Scope, USER_NAME, answer, pages};

/// Why a request cannot go on.
#[derive(Debug)]
enum AuthorizeError {
    /// It is not known who asks, or where they may be answered: the user is told, the browser stays (RFC 6749 §4.1.2.1).
    Page(&'static str),
    /// The client is told.
    Redirect { redirect_uri: String, state: Option<String>, error: &'static str, description: &'static str },
}

/// `GET /authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3): shows the login page, or the consent page to who is signed in.
pub(super) async fn authorize(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap) -> Response {
    match begin(&inner, uri.query().unwrap_or_default(), cookie(&headers)) {
        Ok(response) => response,
        Err(error) => inner.refuse(error),
    }
}

/// `POST /login`: shows the consent page to who knows the password.
pub(super) async fn login(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((form, id, interaction)) = inner.form(&headers, &body) else { return lost() };
    let password = Secret::new(form.get("password").unwrap_or_default());
    if form.get("username") != Some(USER_NAME) || password != inner.password {
        return answer::page(
            StatusCode::FORBIDDEN,
            pages::login(&id, &interaction.request.client_name, true),
        );
    }
    let user = SignedIn { subject: USER_NAME.to_owned(), at: inner.now() };
    let browser = inner.handle();
    inner.state().interactions.sign_in(&id, &browser, &user);
    with_cookie(inner.consent_page(&id, &interaction.request, &user), &browser)
}

/// `POST /consent`: sends the browser back with a code, or with the user's refusal.
pub(super) async fn consent(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((form, id, Interaction { request, user: Some(user), .. })) = inner.form(&headers, &body) else {
        return lost();
    };
    match form.get("decision") {
        Some("allow") => {}
        Some("deny") => {
            inner.state().interactions.end(&id);
            return inner.refuse(AuthorizeError::Redirect {
                redirect_uri: request.redirect_uri,
                state: request.state,
                error: "access_denied",
                description: "the user refused",
            });
        }
        _ => return answer::page(StatusCode::BAD_REQUEST, pages::refused("Allow or refuse?")),
    }
    let code = inner.handle();
    let location = inner.location(&request.redirect_uri, request.state.as_deref(), &[("code", &code)]);
    let authorization = Authorization {
        client_id: request.client_id,
        subject: user.subject,
        scopes: request.scopes,
        nonce: request.nonce,
        signed_in_at: user.at,
    };
    let terms = CodeTerms { redirect_uri: request.redirect_uri, code_challenge: request.code_challenge };
    let mut state = inner.state();
    state.interactions.end(&id);
    state.grants.add_code(&code, authorization, terms, inner.now());
    location.map_or_else(lost, |location| answer::redirect(&location))
}

fn begin(inner: &Inner, query: &str, cookie: Option<&str>) -> Result<Response, AuthorizeError> {
    let parameters = Parameters::parse(query.as_bytes())
        .map_err(|Repeated| AuthorizeError::Page("A parameter is sent more than once."))?;
    let request = inner.read_request(&parameters)?;
    let refuse = |error, description| AuthorizeError::Redirect {
        redirect_uri: request.redirect_uri.clone(),
        state: request.state.clone(),
        error,
        description,
    };

    let (prompt, id, now) = (parameters.get("prompt").unwrap_or_default(), inner.handle(), inner.now());
    let mut state = inner.state();
    let known = state.interactions.browser(cookie).cloned();
    let user = known.clone().flatten().filter(|_| prompt != "login");
    if prompt == "none" {
        // OpenID Connect Core §3.1.2.6. Consent is asked for each time.
        return Err(match user {
            Some(_) => refuse("consent_required", "the user has to be asked"),
            None => refuse("login_required", "the user has to sign in"),
        });
    }
    let browser = match (cookie, known) {
        (Some(cookie), Some(_)) => cookie.to_owned(),
        _ => {
            let browser = inner.handle();
            state.interactions.add_browser(browser.clone(), None);
            browser
        }
    };
    state.interactions.begin(id.clone(), &browser, request.clone(), user.clone(), now);
    drop(state);
    let page = match user {
        Some(user) => inner.consent_page(&id, &request, &user),
        None => answer::page(StatusCode::OK, pages::login(&id, &request.client_name, false)),
    };
    Ok(with_cookie(page, &browser))
}

impl Inner {
    fn read_request(&self, parameters: &Parameters) -> Result<AuthorizationRequest, AuthorizeError> {
        let client = {
            let state = self.state();
            let id = parameters.get("client_id");
            state.clients.iter().find(|client| Some(client.id.as_str()) == id).cloned()
        };
        let client = client.ok_or(AuthorizeError::Page("The client_id is unknown."))?;
        let redirect_uri = parameters
            .owned("redirect_uri")
            .filter(|uri| client.redirect_uris.contains(uri))
            .ok_or(AuthorizeError::Page("The redirect_uri is not registered for this client."))?;

        let state = parameters.owned("state");
        let refuse = |error, description| {
            Err(AuthorizeError::Redirect {
                redirect_uri: redirect_uri.clone(),
                state: state.clone(),
                error,
                description,
            })
        };
        if !client.may(GrantType::AuthorizationCode) {
            return refuse("unauthorized_client", "this client may not ask users");
        }
        if parameters.get("request").is_some() {
            return refuse("request_not_supported", "request objects are not supported");
        }
        if parameters.get("request_uri").is_some() {
            return refuse("request_uri_not_supported", "request objects are not supported");
        }
        if parameters.get("response_type") != Some("code") {
            return refuse("unsupported_response_type", "response_type must be code");
        }
        if !matches!(parameters.get("response_mode"), None | Some("query")) {
            return refuse("invalid_request", "response_mode must be query");
        }
        // RFC 7636 §4.4.1; an absent method means `plain`, which protects nothing.
        let is_s256 = parameters.get("code_challenge_method") == Some("S256");
        let code_challenge = parameters.owned("code_challenge").filter(|text| is_s256 && is_sha256(text));
        let Some(code_challenge) = code_challenge else {
            return refuse("invalid_request", "PKCE with code_challenge_method S256 is required");
        };
        let Some(scopes) = self.known_scopes(parameters.get("scope").unwrap_or_default()) else {
            return refuse("invalid_scope", "a scope is unknown");
        };
        Ok(AuthorizationRequest {
            client_id: client.id,
            client_name: client.name,
            scopes,
            nonce: parameters.owned("nonce"),
            code_challenge,
            redirect_uri,
            state,
        })
    }

    /// The scopes of a request, each once; `None` when one is unknown.
    pub(super) fn known_scopes(&self, asked: &str) -> Option<Vec<String>> {
        let mut scopes: Vec<String> = Vec::new();
        for name in asked.split(' ').filter(|name| !name.is_empty()) {
            let scope = self.scopes().find(|scope| scope.name == name)?;
            if !scopes.iter().any(|known| known == scope.name) {
                scopes.push(scope.name.to_owned());
            }
        }
        Some(scopes)
    }

    /// The form of a page, with the request that it belongs to, if that is under way in this browser.
    fn form(&self, headers: &HeaderMap, body: &[u8]) -> Option<(Parameters, String, Interaction)> {
        let form = Parameters::parse(body).ok()?;
        let id = form.owned("interaction")?;
        let interaction = self.state().interactions.get(&id, cookie(headers), self.now())?.clone();
        Some((form, id, interaction))
    }

    fn consent_page(&self, id: &str, request: &AuthorizationRequest, user: &SignedIn) -> Response {
        let scopes: Vec<Scope> =
            self.scopes().filter(|scope| request.scopes.iter().any(|name| name == scope.name)).collect();
        answer::page(StatusCode::OK, pages::consent(id, &request.client_name, &user.subject, &scopes))
    }

    fn refuse(&self, error: AuthorizeError) -> Response {
        match error {
            AuthorizeError::Page(message) => answer::page(StatusCode::BAD_REQUEST, pages::refused(message)),
            AuthorizeError::Redirect { redirect_uri, state, error, description } => {
                let parameters = [("error", error), ("error_description", description)];
                self.location(&redirect_uri, state.as_deref(), &parameters)
                    .map_or_else(lost, |location| answer::redirect(&location))
            }
        }
    }

    /// Where the browser goes back to: the answer, the client's `state`, and who answers (RFC 9207 §2).
    fn location(&self, redirect_uri: &str, state: Option<&str>, answer: &[(&str, &str)]) -> Option<String> {
        let mut location = Url::parse(redirect_uri).ok()?;
        location
            .query_pairs_mut()
            .extend_pairs(answer)
            .extend_pairs(state.map(|state| ("state", state)))
            .append_pair("iss", &self.issuer);
        Some(location.into())
    }
}

fn is_sha256(challenge: &str) -> bool {
    agent_identity_core::encoding::unbase64url(challenge).is_some_and(|hash| hash.len() == 32)
}

fn lost() -> Response {
    let message = "There is no such request in this browser. It may have taken too long: start again.";
    answer::page(StatusCode::BAD_REQUEST, pages::refused(message))
}

fn with_cookie(mut response: Response, browser: &str) -> Response {
    if let Some(cookie) = set_cookie(browser) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
