//! An API behind the authorizer, as small as one can be: what it is told of a request, and what it must check again (D14).

mod session;

use std::time::{SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(|event: LambdaEvent<Value>| async move {
        #[expect(clippy::disallowed_methods, reason = "the process begins here: below, time is passed in")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok::<_, Error>(answer(&event.payload, now))
    }))
    .await
}

/// The answer, in payload 2.0.
fn answer(event: &Value, now_seconds: u64) -> Value {
    let (status, body) = match session::verified(event, now_seconds) {
        Ok(session) => (200, session),
        Err(reason) => (403, json!({ "message": reason })),
    };
    json!({
        "statusCode": status,
        "headers": { "content-type": "application/json" },
        "body": body.to_string(),
    })
}
