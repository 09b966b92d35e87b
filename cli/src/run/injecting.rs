//! Which requests are for which tool, and what comes of them: the server makes each of them, with the credential.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_identity_core::{Secret, WorkloadName};
use agent_identity_proxy::{NotOpened, Route, bare};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use url::Url;

use crate::client::{CallError, Client, text};
use crate::{CommandError, CommandResult, input, output};

/// Most bytes of a request's body.
const MAX_BODY: usize = 900 * 1024;

/// Most bytes of a request as JSON: the server takes 1 MiB, with a token and a name.
const MAX_REQUEST: usize = 1000 * 1024;

/// When a workload access token is replaced; it is good for 15 minutes.
const RENEW: Duration = Duration::from_secs(10 * 60);

/// Most bytes of a user's token.
const MAX_TOKEN: u64 = 64 * 1024;

/// Tools on a page of the list.
const PAGE: u32 = 100;

/// Says that an answer is this program's own, and which error it is.
const OURS: HeaderName = HeaderName::from_static("x-agent-identity-error");

/// On whose behalf requests are made.
pub enum Who {
    /// The agent's own.
    Nobody,
    /// A user, by the id that the app gave them.
    Id(String),
    /// A user, by a JWT in this file.
    TokenFile(PathBuf),
}

/// A tool that takes any request of its methods at its URL or below it.
struct Open {
    name: String,
    methods: Vec<String>,
    host: String,
    port: u16,
    /// Empty, or a path without a slash at its end.
    below: String,
}

impl Open {
    /// `None` for other tools.
    fn of(listed: &Value) -> Option<Self> {
        let methods = listed.pointer("/request/methods")?.as_array()?;
        let url: Url = listed.pointer("/request/url")?.as_str()?.parse().ok()?;
        Some(Self {
            name: listed.get("name")?.as_str()?.to_owned(),
            methods: methods.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            // Plain http is not proxied.
            host: Some(bare(url.host_str()?)).filter(|_| url.scheme() == "https")?.to_owned(),
            port: url.port_or_known_default()?,
            below: url.path().trim_end_matches('/').to_owned(),
        })
    }

    fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// The server looks again, and closer.
    fn takes(&self, path: &str) -> bool {
        path.strip_prefix(self.below.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The requests of one program.
pub struct Injecting {
    client: Client,
    agent: WorkloadName,
    who: Who,
    return_url: Option<String>,
    tools: Vec<Open>,
    /// The workload access token, and since when.
    token: tokio::sync::Mutex<Option<(Instant, Secret)>>,
    /// The consent that a tool waits for.
    consents: Mutex<HashMap<String, String>>,
    /// What the person was told.
    told: Mutex<HashSet<(String, NotOpened)>>,
}

impl Injecting {
    /// With the tools of the agent that take any request.
    ///
    /// # Errors
    /// When the server does not say which, there is none, or the user is nobody it knows.
    pub async fn new(
        client: Client,
        agent: WorkloadName,
        who: Who,
        return_url: Option<String>,
    ) -> CommandResult<Self> {
        let mut tools = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let asked = json!({ "workloadName": agent, "maxResults": PAGE, "nextToken": next });
            let page = client.call("/identities/ListTools", &asked).await?;
            tools.extend(
                page.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(Open::of),
            );
            next = page.get("nextToken").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        if tools.is_empty() {
            return Err(CommandError(format!(
                "no tool is open to the programs of `{agent}`: store one whose request has `methods`, such as {{\"methods\": [\"GET\"], \
                 \"url\": \"https://api.example.com\"}}, and whose allowedWorkloads name it (docs/operations.md)"
            )));
        }
        // The one that says most of the path is the one that is meant.
        tools.sort_by_key(|tool| std::cmp::Reverse(tool.below.len()));
        let injecting = Self {
            client,
            agent,
            who,
            return_url,
            tools,
            token: tokio::sync::Mutex::default(),
            consents: Mutex::default(),
            told: Mutex::default(),
        };
        injecting.workload_token(None).await?;
        Ok(injecting)
    }

    /// What is opened.
    pub fn hosts(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.host.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A line for each tool.
    pub fn summary(&self) -> Vec<String> {
        let line = |tool: &Open| {
            format!(
                "{} https://{}:{}{} and below: credential of the tool {}",
                tool.methods.join(" "),
                tool.host,
                tool.port,
                tool.below,
                tool.name
            )
        };
        self.tools.iter().map(line).collect()
    }

    /// The workload access token, but not this one, which was refused.
    async fn workload_token(&self, refused: Option<&Secret>) -> Result<Secret, CallError> {
        let mut held = self.token.lock().await;
        if let Some((since, token)) = &*held
            && since.elapsed() < RENEW
            && refused != Some(token)
        {
            return Ok(token.clone());
        }
        let (path, asked) = match &self.who {
            Who::Nobody => ("GetWorkloadAccessToken", json!({ "workloadName": self.agent })),
            Who::Id(id) => {
                ("GetWorkloadAccessTokenForUserId", json!({ "workloadName": self.agent, "userId": id }))
            }
            Who::TokenFile(file) => {
                let token = input::text_of(file, "--user-token-file", MAX_TOKEN)
                    .map_err(|error| CallError::NotSent(error.0))?;
                (
                    "GetWorkloadAccessTokenForJWT",
                    json!({ "workloadName": self.agent, "userToken": token.trim() }),
                )
            }
        };
        let answer = self.client.call(&format!("/identities/{path}"), &asked).await;
        let answer = answer.map_err(|error| match error {
            // Of the request that it is for nothing was sent.
            CallError::Unknown(why) => CallError::NotSent(why),
            other => other,
        })?;
        let token = text(&answer, "workloadAccessToken").map_err(|error| CallError::NotSent(error.0))?;
        let token = Secret::new(token);
        *held = Some((Instant::now(), token.clone()));
        Ok(token)
    }

    async fn invoke(&self, tool: &str, request: &Map<String, Value>) -> Result<Value, CallError> {
        let mut token = self.workload_token(None).await?;
        let mut again = true;
        loop {
            let session = self.consents().get(tool).cloned();
            let asked = json!({
                "workloadIdentityToken": token.expose(),
                "toolName": tool,
                "input": request,
                "sessionUri": session,
                "resourceOauth2ReturnUrl": self.return_url,
            });
            match self.client.call("/identities/InvokeTool", &asked).await {
                // Its session has ended, or its user was signed out since.
                Err(CallError::Refused { status: 401, .. }) if again => {
                    token = self.workload_token(Some(&token)).await?;
                }
                // The consent has come to nothing: another one can be begun.
                Err(CallError::Refused { status: 400 | 403 | 404, .. }) if again && session.is_some() => {
                    self.consents().remove(tool);
                }
                answered => return answered,
            }
            again = false;
        }
    }

    fn consents(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.consents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the program gets of what the server says.
    fn answered(&self, tool: &str, answer: &Value) -> Response<Full<Bytes>> {
        if let Ok(url) = text(answer, "authorizationUrl") {
            let session = text(answer, "sessionUri").unwrap_or_default();
            let before = self.consents().insert(tool.to_owned(), session.to_owned());
            if before.as_deref() != Some(session) {
                output::complain(&format!(
                    "agent-identity: the user must consent before the tool {tool} has a credential: open {url}"
                ));
            }
            // RFC 6585 §6: of an intercepting proxy.
            return ours(
                StatusCode::NETWORK_AUTHENTICATION_REQUIRED,
                "ConsentRequired",
                "the user must consent first; then try again",
                Some(url),
            );
        }
        self.consents().remove(tool);
        if let Some(error) = answer.get("error") {
            let code = text(error, "code").unwrap_or("error");
            return ours(StatusCode::BAD_GATEWAY, code, text(error, "message").unwrap_or_default(), None);
        }
        said_by_tool(answer).unwrap_or_else(|| {
            ours(
                StatusCode::BAD_GATEWAY,
                "UNREADABLE",
                "the answer cannot be passed on; it may have been done all the same",
                None,
            )
        })
    }
}

/// An answer of this program's own.
fn ours(
    status: StatusCode,
    code: &str,
    message: &str,
    authorization_url: Option<&str>,
) -> Response<Full<Bytes>> {
    let mut body = json!({ "error": code, "message": message });
    if let (Some(url), Some(members)) = (authorization_url, body.as_object_mut()) {
        members.insert("authorizationUrl".to_owned(), json!(url));
    }
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(code) = HeaderValue::from_str(code) {
        headers.insert(OURS, code);
    }
    response
}

fn said_by_tool(answer: &Value) -> Option<Response<Full<Bytes>>> {
    let status = StatusCode::from_u16(u16::try_from(answer.get("statusCode")?.as_u64()?).ok()?).ok()?;
    if status.is_informational() {
        return None;
    }
    let body = answer.get("body")?.as_str()?;
    let body = match answer.get("isBase64Encoded")?.as_bool()? {
        true => STANDARD.decode(body).ok()?,
        false => body.as_bytes().to_vec(),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    for (name, value) in answer.get("headers")?.as_object()? {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        if name == OURS {
            continue;
        }
        // What cannot stand in a header did not stand in one.
        if let Ok(value) = HeaderValue::from_str(value.as_str()?) {
            response.headers_mut().insert(name, value);
        }
    }
    Some(response)
}

fn refused(error: &CallError) -> Response<Full<Bytes>> {
    let (status, name, message) = match error {
        CallError::Refused { status, name, message, .. } => (status, name, message),
        CallError::NotSent(why) => return ours(StatusCode::BAD_GATEWAY, "UNREACHABLE", why, None),
        CallError::Unknown(why) => {
            let message = format!("{why}; it may have been done all the same");
            return ours(StatusCode::BAD_GATEWAY, "UNKNOWN_OUTCOME", &message, None);
        }
    };
    if *status == 409 || (*status >= 500 && *status != 503) {
        let message = format!("{name}: {message}; it may have been done all the same");
        return ours(StatusCode::BAD_GATEWAY, "UNKNOWN_OUTCOME", &message, None);
    }
    let status = match status {
        429 | 503 => StatusCode::SERVICE_UNAVAILABLE,
        400 | 413 => StatusCode::BAD_REQUEST,
        // Not 401: the program has no credential to try again with.
        _ => StatusCode::FORBIDDEN,
    };
    ours(status, name, message, None)
}

/// Values of one name are joined (RFC 9110 §5.3).
fn headers_of(headers: &HeaderMap) -> Option<Map<String, Value>> {
    let mut all = Map::new();
    for name in headers.keys() {
        let values: Result<Vec<&str>, _> = headers.get_all(name).iter().map(HeaderValue::to_str).collect();
        all.insert(name.as_str().to_owned(), json!(values.ok()?.join(", ")));
    }
    Some(all)
}

#[async_trait]
impl Route for Injecting {
    fn opens(&self, host: &str, port: u16) -> bool {
        self.tools.iter().any(|tool| tool.is_at(host, port))
    }

    async fn answer(&self, host: &str, port: u16, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let (path, method) = (head.uri.path(), head.method.as_str());
        let mut there = self.tools.iter().filter(|tool| tool.is_at(host, port) && tool.takes(path));
        let Some(tool) = there.find(|tool| tool.methods.iter().any(|it| it == method)) else {
            let message = format!(
                "no tool of the agent `{}` takes {method} at https://{host}:{port}{path}",
                self.agent
            );
            return ours(StatusCode::FORBIDDEN, "NoTool", &message, None);
        };
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                let message = format!("the body has more than {MAX_BODY} bytes, or has not come whole");
                return ours(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", &message, None);
            }
        };
        let Ok(body) = std::str::from_utf8(&body) else {
            return ours(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NotText", "the body is not UTF-8 text", None);
        };
        let Some(headers) = headers_of(&head.headers) else {
            return ours(StatusCode::BAD_REQUEST, "NotText", "a header is not ASCII text", None);
        };
        let mut sent = Map::new();
        sent.insert("method".to_owned(), json!(method));
        sent.insert("path".to_owned(), json!(path));
        sent.insert("headers".to_owned(), Value::Object(headers));
        if let Some(query) = head.uri.query() {
            sent.insert("query".to_owned(), json!(query));
        }
        if !body.is_empty() {
            sent.insert("body".to_owned(), json!(body));
        }
        if Value::Object(sent.clone()).to_string().len() > MAX_REQUEST {
            let message =
                format!("the request has more than {MAX_REQUEST} bytes as JSON, which is how it travels");
            return ours(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", &message, None);
        }
        let mut response = match self.invoke(&tool.name, &sent).await {
            Ok(answer) => self.answered(&tool.name, &answer),
            Err(error) => refused(&error),
        };
        if head.method == Method::HEAD {
            *response.body_mut() = Full::default();
        }
        response
    }

    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        agent_identity_egress::dial(host, port).await
    }

    fn not_opened(&self, host: &str, why: NotOpened) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert((host.to_owned(), why)) {
            output::complain(&match why {
                NotOpened::Mistrusted => format!(
                    "agent-identity: COMMAND does not trust the certificate of this run for {host}: it reads its trusted certificates \
                     from elsewhere than the usual variables"
                ),
                NotOpened::NoHttp1 => format!(
                    "agent-identity: COMMAND speaks HTTP/2 alone to {host}, which this proxy does not; tell it to use HTTP/1.1"
                ),
            });
        }
    }
}
