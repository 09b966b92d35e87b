//! The router of `api` behind API Gateway: the same routes as on a laptop.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_api::{
    AccessKeys, Api, Authenticate, CancellationToken, GatewayCaller, Hosts, IamPrincipals, RequestId,
    Surface, TaskTracker, agent_routes,
};
use agent_identity_aws::EventBridgeEvents;
use agent_identity_service::Services;
use axum::Router;
use http::Uri;
use http_body_util::BodyExt as _;
use lambda_http::request::RequestContext;
use lambda_http::{Body, IntoResponse, Request, RequestExt as _, Response, service_fn};
use tower::ServiceExt as _;

use crate::session::{BehindAuthorizer, Verified};
use crate::{PrincipalSource, StartError, start, variable};

/// Runs a function that serves this part of the operations, one request at a time or, on managed instances, several.
///
/// # Errors
/// When the environment is not what it must be, which is logged too.
pub async fn serve<S: Surface>() -> Result<(), StartError> {
    let function = start(None, |composed| {
        let authenticate: Arc<dyn Authenticate> = match PrincipalSource::read(variable)? {
            PrincipalSource::Iam { gateway, administrator } => {
                Arc::new(IamPrincipals::new(Arc::clone(&composed.services), gateway, administrator))
            }
            PrincipalSource::AccessKeys => Arc::new(AccessKeys::new(Arc::clone(&composed.services), false)),
        };
        let (services, usage_every) = (Arc::clone(&composed.services), composed.usage_every);
        let api = Api {
            services: composed.services,
            authenticate,
            // API Gateway serves no other hosts than the API's own.
            hosts: Hosts::Any,
            work: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        let more = if S::TOOLS { agent_routes(Arc::new(BehindAuthorizer)) } else { Router::new() };
        Ok(Function {
            router: agent_identity_api::router::<S>(api, more),
            services,
            usage_every,
            events: composed.events,
        })
    })?;
    lambda_http::run_concurrent(service_fn(move |request| {
        let function = function.clone();
        async move { Ok::<_, Infallible>(function.answer(request).await) }
    }))
    .await
}

#[derive(Clone)]
struct Function {
    router: Router,
    services: Arc<Services>,
    usage_every: Duration,
    events: Arc<EventBridgeEvents>,
}

impl Function {
    async fn answer(&self, request: Request) -> Whole {
        let context = request.lambda_context();
        let (caller, verified) = (caller(&request), verified(&request));
        let (mut parts, body) = request.into_parts();
        // The path alone, as on a laptop: the host stands in its header.
        if let Some(path) = parts.uri.path_and_query() {
            parts.uri = Uri::from(path.clone());
        }
        parts.extensions.insert(RequestId(context.request_id));
        if let Some(caller) = caller {
            parts.extensions.insert(caller);
        }
        if let Some(verified) = verified {
            parts.extensions.insert(verified);
        }
        let body = match body {
            Body::Text(text) => axum::body::Body::from(text),
            Body::Binary(bytes) => axum::body::Body::from(bytes),
            _ => axum::body::Body::empty(),
        };
        let answered = self.router.clone().oneshot(http::Request::from_parts(parts, body)).await;
        // Lambda may freeze the process as soon as there is an answer.
        self.events.flush().await;
        if let Some(trail) = &self.services.ports().trail {
            trail.write_usage(self.usage_every).await;
            trail.note_lines(self.usage_every).await;
        }
        match answered {
            Ok(response) => Whole(whole(response).await),
            Err(never) => match never {},
        }
    }
}

/// An answer as it goes out. lambda_http would otherwise look at its charset, and have the code of all that there are.
struct Whole(Response<Body>);

impl IntoResponse for Whole {
    fn into_response(self) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        Box::pin(ready(self.0))
    }
}

/// The answer with its body in one piece, which is how Lambda takes it.
async fn whole(response: axum::response::Response) -> Response<Body> {
    let (parts, body) = response.into_parts();
    // Bodies of this router are in memory: reading them does not fail.
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = match String::from_utf8(bytes.into()) {
        Ok(text) if text.is_empty() => Body::Empty,
        Ok(text) => Body::Text(text),
        Err(error) => Body::Binary(error.into_bytes()),
    };
    Response::from_parts(parts, body)
}

/// Whom API Gateway has verified with IAM, if it did.
fn caller(request: &Request) -> Option<GatewayCaller> {
    let RequestContext::ApiGatewayV2(context) = request.request_context_ref()? else {
        return None;
    };
    let iam = context.authorizer.as_ref()?.iam.as_ref()?;
    Some(GatewayCaller {
        api_id: context.apiid.clone().unwrap_or_default(),
        account_id: context.account_id.clone().unwrap_or_default(),
        user_arn: iam.user_arn.clone()?,
    })
}

/// Whom our authorizer has verified, if it was in front.
fn verified(request: &Request) -> Option<Verified> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => Verified::of(&context.authorizer.as_ref()?.fields),
        _ => None,
    }
}
