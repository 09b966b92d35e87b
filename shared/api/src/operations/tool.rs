//! Tools on the wire: operations of ours, in the style of AWS's.

use std::collections::BTreeSet;

use agent_identity_core::consent::SessionUri;
use agent_identity_core::encoding::base64;
use agent_identity_core::error::FieldError;
use agent_identity_core::grant::{Pattern, Principal};
use agent_identity_core::http::Method;
use agent_identity_core::name::{Scope, ToolName};
use agent_identity_core::tool::{
    AnyRequest, Placement, RequestParts, RequestTemplate, Tool, ToolCredential, ToolFlow, ToolRequest,
    credential_header,
};
use agent_identity_core::workload::ReturnUrl;
use agent_identity_core::{Error, ProviderName, WorkloadName};
use agent_identity_service::invoke::{ToolCall, ToolOutcome};
use agent_identity_service::tool::{DeleteTool, GetTool, ListTools, PutTool};
use serde_json::{Map, Value, json};

use super::authorize;
use super::credential::label;
use super::credential::workload_token;
use super::shapes::{consent, list as list_of, object, page};
use crate::fields::{Members, one_of, secret, sized};
use crate::{Api, Failure};

/// Most tools on a page.
pub(crate) const MAX_PAGE: u64 = 100;

/// Most patterns of workloads that may call a tool.
const MAX_WORKLOADS: usize = 64;

fn name(body: &Members) -> Option<ToolName> {
    body.required("name", ToolName::parse)
}

/// Any JSON object.
fn document(body: &Members, name: &str) -> Option<Option<Map<String, Value>>> {
    match body.raw(name) {
        None => Some(None),
        Some(Value::Object(map)) => Some(Some(map.clone())),
        Some(_) => {
            body.wrong(name, "must be an object");
            None
        }
    }
}

const METHODS: &[(&str, Method)] = &[
    (Method::Get.as_str(), Method::Get),
    (Method::Head.as_str(), Method::Head),
    (Method::Post.as_str(), Method::Post),
    (Method::Put.as_str(), Method::Put),
    (Method::Patch.as_str(), Method::Patch),
    (Method::Delete.as_str(), Method::Delete),
];

/// A request with `methods` takes any request of these; one with `method` is one request.
fn request(body: &Members) -> Option<ToolRequest> {
    let request = body.required_object("request")?;
    match request.raw("methods") {
        Some(_) => any_request(&request).map(ToolRequest::Any),
        None => template(&request).map(ToolRequest::Template),
    }
}

fn any_request(request: &Members) -> Option<AnyRequest> {
    for member in ["method", "query", "headers", "body"] {
        if request.raw(member).is_some() {
            request.wrong(member, "is not for a tool with `methods`: its input is the request");
        }
    }
    let (methods, url) = (request.texts("methods", one_of(METHODS)), request.required("url", sized(1, 8192)));
    let methods = methods??;
    if methods.is_empty() {
        request.wrong("methods", "must name at least one method");
        return None;
    }
    AnyRequest::parse(&methods, &url?).map_err(|wrong| request.wrong("url", wrong)).ok()
}

fn template(request: &Members) -> Option<RequestTemplate> {
    let method = request.required("method", one_of(METHODS));
    let url = request.required("url", sized(1, 8192));
    let short = |name: &str, value: &str| {
        sized(1, 128)(name).map_err(|wrong| format!("a name {wrong}"))?;
        sized(0, 4096)(value).map_err(|wrong| format!("the value of `{name}` {wrong}"))?;
        Ok(())
    };
    let query = request.text_map("query", 64, short);
    let headers = request.text_map("headers", 64, short);
    let parts = RequestParts {
        method: method?,
        url: url?,
        query: query?.unwrap_or_default(),
        headers: headers?.unwrap_or_default(),
        body: request.raw("body").cloned(),
    };
    match RequestTemplate::parse(parts) {
        Ok(request) => Some(request),
        Err(wrong) => {
            for FieldError { name, message } in wrong {
                request.wrong(&name, message);
            }
            None
        }
    }
}

/// The inner `None`: the tool has no credential.
fn credential(body: &Members) -> Option<Option<ToolCredential>> {
    const FLOWS: &[(&str, ToolFlow)] = &[
        (ToolFlow::UserFederation.as_str(), ToolFlow::UserFederation),
        (ToolFlow::M2m.as_str(), ToolFlow::M2m),
        (ToolFlow::ApiKey.as_str(), ToolFlow::ApiKey),
    ];
    let Some(credential) = body.object("credential")? else { return Some(None) };
    let provider = credential.required("providerName", ProviderName::parse);
    let flow = credential.required("flow", one_of(FLOWS));
    let scopes = credential.texts("scopes", Scope::parse);
    let resources = credential.texts("resources", sized(1, 2048));
    let audiences = credential.texts("audiences", sized(1, 2048));
    let placement = placement(&credential);
    Some(Some(ToolCredential {
        provider: provider?,
        flow: flow?,
        scopes: scopes?.unwrap_or_default().into_iter().collect::<BTreeSet<_>>(),
        resources: resources?.unwrap_or_default(),
        audiences: audiences?.unwrap_or_default(),
        placement: placement?,
    }))
}

#[derive(Clone, Copy, PartialEq)]
enum Location {
    Bearer,
    Header,
    Query,
    Basic,
}

/// Absent: a bearer token.
fn placement(credential: &Members) -> Option<Placement> {
    const LOCATIONS: &[(&str, Location)] = &[
        ("BEARER", Location::Bearer),
        ("HEADER", Location::Header),
        ("QUERY", Location::Query),
        ("BASIC", Location::Basic),
    ];
    let Some(placement) = credential.object("placement")? else { return Some(Placement::Bearer) };
    let location = placement.required("location", one_of(LOCATIONS))?;
    let unused: &[&str] = match location {
        Location::Bearer => &["name", "prefix", "username"],
        Location::Header => &["username"],
        Location::Query => &["prefix", "username"],
        Location::Basic => &["name", "prefix"],
    };
    for member in unused {
        if placement.raw(member).is_some() {
            placement.wrong(member, "is not for this location");
        }
    }
    let plain = |max: usize| {
        move |text: &str| {
            let text = sized(0, max)(text)?;
            if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                Ok(text)
            } else {
                Err("must have visible ASCII characters and spaces only".to_owned())
            }
        }
    };
    Some(match location {
        Location::Bearer => Placement::Bearer,
        Location::Header => {
            let (name, prefix) =
                (placement.required("name", credential_header), placement.text("prefix", plain(64)));
            Placement::Header { name: name?, prefix: prefix?.unwrap_or_default() }
        }
        Location::Query => Placement::Query { name: placement.required("name", sized(1, 128))? },
        Location::Basic => {
            let without_colon = |text: &str| match text.contains(':') {
                true => Err("must not contain a colon".to_owned()),
                false => plain(256)(text),
            };
            Placement::Basic { username: placement.text("username", without_colon)? }
        }
    })
}

fn allowed_workloads(body: &Members) -> Option<Vec<Pattern>> {
    let pattern = |text: &str| {
        let text = sized(1, 255)(text)?;
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-*".contains(c)) {
            Ok(Pattern::from(text.as_str()))
        } else {
            Err("must be a name of a workload identity, with * for any run of characters".to_owned())
        }
    };
    let patterns = body.texts("allowedWorkloads", pattern)?.unwrap_or_default();
    if !(1..=MAX_WORKLOADS).contains(&patterns.len()) {
        body.wrong(
            "allowedWorkloads",
            format!("must name 1 to {MAX_WORKLOADS} workload identities: no other may call the tool"),
        );
        return None;
    }
    Some(patterns)
}

/// Reads a tool by the rules of PutTool: for who stores it otherwise.
///
/// # Errors
/// `Validation`, with every member that is wrong.
pub fn parse_tool(members: Map<String, Value>) -> Result<PutTool, Error> {
    let body = Members::of_body(members);
    let tool = put_tool(&body);
    body.finish(tool)
}

fn put_tool(body: &Members) -> Option<PutTool> {
    let (name, description) = (name(body), body.text("description", sized(0, 4096)));
    let input_schema = document(body, "inputSchema");
    let (request, credential, allowed) = (request(body), credential(body), allowed_workloads(body));
    let (input_schema, request) = (input_schema?, request?);
    let input_schema = match (&request, input_schema) {
        (ToolRequest::Any(any), None) => any.input_schema(),
        // As GetTool shows it.
        (ToolRequest::Any(any), Some(schema)) if schema == any.input_schema() => schema,
        (ToolRequest::Any(_), Some(_)) => {
            body.wrong("inputSchema", "is not for a tool with `methods`: its input is a request");
            return None;
        }
        (ToolRequest::Template(_), Some(schema)) => schema,
        (ToolRequest::Template(_), None) => {
            body.missing("inputSchema");
            return None;
        }
    };
    Some(PutTool {
        name: name?,
        description: description?.unwrap_or_default(),
        input_schema,
        request,
        credential: credential?,
        allowed_workloads: allowed?,
    })
}

pub(super) async fn put(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let tool = put_tool(&body);
    let action = authorize(principal, body.finish(tool)?)?;
    Ok(Value::Object(summary(&api.services.put_tool(action).await?)))
}

fn summary(tool: &Tool) -> Map<String, Value> {
    object([
        ("name", json!(tool.name)),
        ("version", json!(tool.version)),
        ("createdTime", json!(tool.created_at.as_seconds_f64())),
        ("lastUpdatedTime", json!(tool.updated_at.as_seconds_f64())),
    ])
}

fn placement_shown(placement: &Placement) -> Value {
    match placement {
        Placement::Bearer => json!({ "location": "BEARER" }),
        Placement::Header { name, prefix } => json!({ "location": "HEADER", "name": name, "prefix": prefix }),
        Placement::Query { name } => json!({ "location": "QUERY", "name": name }),
        Placement::Basic { username: Some(username) } => json!({ "location": "BASIC", "username": username }),
        Placement::Basic { username: None } => json!({ "location": "BASIC" }),
    }
}

fn shown_request(request: &ToolRequest) -> Value {
    let template = match request {
        ToolRequest::Any(any) => return json!({ "methods": any.methods(), "url": any.url() }),
        ToolRequest::Template(template) => template,
    };
    let parts = template.parts();
    let mut request = json!({
        "method": parts.method,
        "url": parts.url,
        "query": parts.query,
        "headers": parts.headers,
    });
    if let (Some(body), Some(members)) = (parts.body, request.as_object_mut()) {
        members.insert("body".to_owned(), body);
    }
    request
}

/// A tool as GetTool shows it.
pub fn shown_tool(tool: &Tool) -> Value {
    let mut answer = summary(tool);
    answer.insert("description".to_owned(), json!(tool.description));
    answer.insert("inputSchema".to_owned(), json!(tool.input_schema));
    answer.insert("request".to_owned(), shown_request(&tool.request));
    answer.insert("allowedWorkloads".to_owned(), json!(tool.allowed_workloads));
    if let Some(credential) = &tool.credential {
        let credential = json!({
            "providerName": credential.provider,
            "flow": credential.flow,
            "scopes": credential.scopes,
            "resources": credential.resources,
            "audiences": credential.audiences,
            "placement": placement_shown(&credential.placement),
        });
        answer.insert("credential".to_owned(), credential);
    }
    Value::Object(answer)
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let name = name(&body);
    let action = authorize(principal, body.finish(name.map(|name| GetTool { name }))?)?;
    Ok(shown_tool(&api.services.get_tool(action).await?))
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let name = name(&body);
    let action = authorize(principal, body.finish(name.map(|name| DeleteTool { name }))?)?;
    api.services.delete_tool(action).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (workload, page) = (body.text("workloadName", WorkloadName::parse), page(&body, MAX_PAGE));
    let action = (|| Some(ListTools { workload: workload?, page: page? }))();
    let action = authorize(principal, body.finish(action)?)?;
    let page = api.services.list_tools(action).await?;
    let items = page.items.iter().map(|tool| {
        let mut item = summary(tool);
        item.insert("description".to_owned(), json!(tool.description));
        item.insert("inputSchema".to_owned(), json!(tool.input_schema));
        if let Some(credential) = &tool.credential {
            item.insert("providerName".to_owned(), json!(credential.provider));
        }
        // Who makes requests as they come must know which of them are for this tool.
        if let ToolRequest::Any(_) = &tool.request {
            item.insert("request".to_owned(), shown_request(&tool.request));
        }
        Value::Object(item)
    });
    Ok(list_of("tools", items.collect(), page.next_token))
}

/// What a call says besides its tool.
pub(crate) fn call(body: &Members, tool: Option<ToolName>) -> Option<ToolCall> {
    let input = document(body, "input");
    let label = label(body);
    let consent = body.text("sessionUri", SessionUri::parse);
    let return_url = body.text("resourceOauth2ReturnUrl", ReturnUrl::parse);
    let custom_state = body.text("customState", secret(1, 4096));
    Some(ToolCall {
        tool: tool?,
        input: input?.unwrap_or_default(),
        label: label?,
        consent: consent?,
        return_url: return_url?,
        custom_state: custom_state?,
    })
}

pub(super) async fn invoke(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (token, tool) = (workload_token(&body), body.required("toolName", ToolName::parse));
    let call = call(&body, tool);
    let (token, call) = body.finish((|| Some((token?, call?)))())?;
    Ok(outcome(api.services.invoke_tool(principal, &token, &call).await?))
}

/// Which of the three members is there says what came of the call: `statusCode`, `authorizationUrl` or `error`.
pub(crate) fn outcome(outcome: ToolOutcome) -> Value {
    match outcome {
        ToolOutcome::Answered(answer) => {
            let (body, is_base64) = match String::from_utf8(answer.body) {
                Ok(text) => (text, false),
                Err(binary) => (base64(binary.into_bytes()), true),
            };
            json!({
                "statusCode": answer.status,
                "headers": answer.headers,
                "body": body,
                "isBase64Encoded": is_base64,
            })
        }
        ToolOutcome::Consent { authorization_url, session } => consent(&authorization_url, &session),
        ToolOutcome::Failed { code, message } => {
            json!({ "error": { "code": code.as_str(), "message": message } })
        }
    }
}
