//! A proxy before an emulator that spoils calls: what a network and a busy service do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// Refused, and not done.
    Throttle,
    /// Refused because of another transaction, and not done.
    Conflict,
    /// The connection ends before it is done.
    Reset,
    /// It is done, and the connection ends before its answer.
    LoseAnswer,
    /// It is done, and its answer never comes.
    Hang,
    /// Nothing of a batch is done.
    Unprocessed,
}

/// The proxy, and what it has seen.
pub struct Proxy {
    pub url: String,
    script: Arc<Mutex<VecDeque<Fault>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl Proxy {
    /// A proxy before `endpoint` that spoils nothing yet.
    pub async fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (script, calls) =
            (Arc::<Mutex<VecDeque<Fault>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (faults, seen, target) = (Arc::clone(&script), Arc::clone(&calls), endpoint.to_owned());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (faults, seen, target) = (Arc::clone(&faults), Arc::clone(&seen), target.clone());
                let service = service_fn(move |request| {
                    let fault = faults.lock().unwrap().pop_front().unwrap_or(Fault::Pass);
                    answer(request, fault, target.clone(), Arc::clone(&seen))
                });
                tokio::spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _cut = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, script, calls }
    }

    /// What happens to the next calls, one after the other.
    pub fn spoil(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut script = self.script.lock().unwrap();
        script.clear();
        script.extend(faults);
        self.calls.lock().unwrap().clear();
    }

    /// The operations that were called since, by name.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn refusal(code: &str, more: Value) -> Response<Full<Bytes>> {
    let mut body =
        json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "spoiled" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Response::builder()
        .status(400)
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

async fn answer(
    request: Request<Incoming>,
    fault: Fault,
    target: String,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (mut parts, body) = request.into_parts();
    let operation = parts.headers.get("x-amz-target").and_then(|name| name.to_str().ok()).unwrap_or_default();
    let operation = operation.rsplit('.').next().unwrap_or_default().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push(operation.clone());
    match fault {
        Fault::Throttle => return Ok(refusal("ThrottlingException", json!({}))),
        Fault::Reset => return Err(Cut),
        Fault::Conflict if operation == "TransactWriteItems" => {
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let count = asked["TransactItems"].as_array().unwrap().len();
            let mut reasons = vec![json!({ "Code": "None" }); count];
            *reasons.last_mut().unwrap() = json!({ "Code": "TransactionConflict", "Message": "spoiled" });
            return Ok(refusal("TransactionCanceledException", json!({ "CancellationReasons": reasons })));
        }
        Fault::Conflict => return Ok(refusal("TransactionConflictException", json!({}))),
        Fault::Unprocessed => {
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let answer = json!({ "Responses": {}, "UnprocessedKeys": asked["RequestItems"] });
            return Ok(Response::new(Full::new(Bytes::from(answer.to_string()))));
        }
        Fault::Pass | Fault::LoseAnswer | Fault::Hang => {}
    }
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    parts.uri = format!("{target}{path}").parse().unwrap();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answered = client.request(Request::from_parts(parts, Full::new(body))).await.unwrap();
    let (parts, body) = answered.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    match fault {
        Fault::LoseAnswer => Err(Cut),
        Fault::Hang => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err(Cut)
        }
        _ => Ok::<_, Cut>(Response::from_parts(parts, Full::new(body))),
    }
}
