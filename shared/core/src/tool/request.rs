//! The one request of a tool: what is literal in it, and where the agent's input goes. Its method, origin and the literal part of
//! its path are all that the tool can reach: a value can be no more than a value wherever it stands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::origin::Origin;
use super::template::{Part, Template, escape, plain, value};
use crate::error::FieldError;
use crate::http::Method;
use crate::{Error, Result};

/// Most bytes of a URL that is sent.
pub(super) const MAX_URL: usize = 8192;

/// Most bytes of a header's value.
const MAX_HEADER: usize = 8192;

/// Headers that are not a tool's to set: how a message is framed and where it goes, who its caller is, what may be compressed.
const NOT_A_TOOLS: [&str; 16] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The content-type of a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// Whether a tool may set this header, given in lower case.
pub(super) fn is_a_tools(name: &str) -> bool {
    !NOT_A_TOOLS.contains(&name) && !name.starts_with("x-forwarded-") && !name.starts_with("proxy-")
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A header's name in lower case, if a credential may be put there.
///
/// # Errors
/// The text says what is wrong.
pub fn credential_header(name: &str) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "authorization" => Ok(name),
        _ if is_token(&name) && is_a_tools(&name) => Ok(name),
        _ => Err("is no header that a credential may stand in".to_owned()),
    }
}

/// What a request is made of, as it was given.
#[derive(Clone, Debug)]
pub struct RequestParts {
    /// The method.
    pub method: Method,
    /// Origin and path.
    pub url: String,
    /// Parameters of the query. One whose value is absent from the input is left out.
    pub query: BTreeMap<String, String>,
    /// Headers. One whose value is absent from the input is left out.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON, or with a content-type of a form the fields of one. A text in it that is one parameter and nothing else
    /// stands for the value itself.
    pub body: Option<Value>,
}

/// The request of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestTemplate {
    /// The method.
    pub method: Method,
    origin: Origin,
    /// Segments of the path.
    path: Vec<Template>,
    query: BTreeMap<String, Template>,
    /// By names in lower case.
    headers: BTreeMap<String, Template>,
    body: Option<Value>,
}

/// What is sent, but for the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<String>,
}

/// Collects what is wrong, and where.
struct Wrong(Vec<FieldError>);

impl Wrong {
    fn note<T>(&mut self, name: impl Into<String>, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.0.push(FieldError { name: name.into(), message })).ok()
    }
}

impl RequestTemplate {
    /// The request, if each part is one that can be sent and nothing of the input can be more than a value.
    ///
    /// # Errors
    /// Every part that is wrong, by its name in the request.
    pub fn parse(parts: RequestParts) -> Result<Self, Vec<FieldError>> {
        let mut wrong = Wrong(Vec::new());
        let url = wrong.note("url", url(&parts.url));
        let query = parts
            .query
            .into_iter()
            .filter_map(|(name, text)| {
                let at = format!("query.{name}");
                Some((name, wrong.note(at, Template::parse(&text))?))
            })
            .collect();
        let headers: BTreeMap<String, Template> = parts
            .headers
            .into_iter()
            .filter_map(|(name, text)| wrong.note(format!("headers.{name}"), header(&name, &text)))
            .collect();
        let is_form = headers.get("content-type").is_some_and(|it| is_form(it.text()));
        if let Some(body) = &parts.body {
            wrong.note("body", check_body(body, is_form));
            if matches!(parts.method, Method::Get | Method::Head) {
                wrong.note::<()>("body", Err("goes with POST, PUT, PATCH and DELETE only".to_owned()));
            }
        }
        match url {
            Some((origin, path)) if wrong.0.is_empty() => {
                Ok(Self { method: parts.method, origin, path, query, headers, body: parts.body })
            }
            _ => Err(wrong.0),
        }
    }

    /// As it was given.
    pub fn parts(&self) -> RequestParts {
        let path: String = self.path.iter().map(|segment| format!("/{}", segment.text())).collect();
        let texts = |templates: &BTreeMap<String, Template>| {
            templates.iter().map(|(name, template)| (name.clone(), template.text().to_owned())).collect()
        };
        RequestParts {
            method: self.method,
            url: format!("{}{path}", self.origin),
            query: texts(&self.query),
            headers: texts(&self.headers),
            body: self.body.clone(),
        }
    }

    /// Where it goes.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it sets this header, given in lower case, or this parameter of the query.
    pub fn sets(&self, header: Option<&str>, parameter: Option<&str>) -> bool {
        header.is_some_and(|name| self.headers.contains_key(name))
            || parameter.is_some_and(|name| self.query.contains_key(name))
    }

    /// Parameters that stand in the path: without them there is no request.
    pub fn path_parameters(&self) -> BTreeSet<&str> {
        self.path.iter().flat_map(Template::parameters).collect()
    }

    /// All parameters.
    pub fn parameters(&self) -> BTreeSet<String> {
        let texts = self.path.iter().chain(self.query.values()).chain(self.headers.values());
        let mut names: BTreeSet<String> = texts.flat_map(Template::parameters).map(str::to_owned).collect();
        if let Some(body) = &self.body {
            each_text(body, &mut |text| {
                if let Ok(template) = Template::parse(text) {
                    names.extend(template.parameters().map(str::to_owned));
                }
            });
        }
        names
    }

    /// The request with the input's values.
    ///
    /// # Errors
    /// `Validation`, naming the member of the input that cannot stand where it would.
    pub fn render(&self, input: &Map<String, Value>) -> Result<Rendered> {
        let mut url = self.origin.to_string();
        for segment in &self.path {
            url.push('/');
            url.push_str(&render_segment(segment, input)?);
        }
        let mut pairs = Vec::new();
        for (name, template) in &self.query {
            for text in render_values(template, input)? {
                pairs.push(format!("{}={}", escape(name), escape(&text)));
            }
        }
        if !pairs.is_empty() {
            url.push('?');
            url.push_str(&pairs.join("&"));
        }
        if url.len() > MAX_URL {
            return Err(Error::field("input", format!("makes a URL of more than {MAX_URL} bytes")));
        }
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            if let Some(text) = template.fill(input).map_err(|name| not_plain(&name))? {
                if !is_header_value(&text) {
                    let names = template.parameters().collect::<Vec<_>>().join(", ");
                    return Err(Error::field(
                        format!("input.{names}"),
                        format!(
                            "stands in the header `{name}`, which takes at most {MAX_HEADER} visible ASCII characters and spaces"
                        ),
                    ));
                }
                headers.push((name.clone(), text));
            }
        }
        let is_form = self.headers.get("content-type").is_some_and(|it| is_form(it.text()));
        let body = match &self.body {
            Some(body) if is_form => Some(render_form(body, input)?),
            // One that is a parameter, which is absent, is absent too.
            Some(body) => render_json(body, input)?.map(|body| body.to_string()),
            None => None,
        };
        if body.is_some() && !self.headers.contains_key("content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Ok(Rendered { method: self.method, url, headers, body })
    }
}

/// Origin and path, of which only the path has parameters.
fn url(text: &str) -> Result<(Origin, Vec<Template>), String> {
    let (origin, path) = split_url(text)?;
    let segments = path.strip_prefix('/').map(|path| path.split('/')).into_iter().flatten();
    let path = segments.map(segment).collect::<Result<_, String>>()?;
    Ok((origin, path))
}

/// Origin, and path as it is written.
pub(super) fn split_url(text: &str) -> Result<(Origin, &str), String> {
    if text.len() > MAX_URL {
        return Err(format!("has more than {MAX_URL} bytes"));
    }
    if text.contains(['?', '#']) {
        return Err("must end with its path: parameters of the query go into `query`".to_owned());
    }
    let from = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(from..).and_then(|rest| rest.find('/')).map_or(text.len(), |at| from + at);
    let (origin, path) = text.split_at_checked(end).ok_or("is no URL")?;
    if origin.contains(['{', '}']) {
        return Err("must have a literal scheme and host: parameters may stand in its path only".to_owned());
    }
    Ok((Origin::parse(origin)?, path))
}

pub(super) fn segment(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    let literal: String = template
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            // Whatever stands there, the segment is no `..` by its literal parts alone.
            Part::Parameter { .. } => "x",
        })
        .collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%".contains(c);
    if !literal.chars().all(allowed) {
        return Err("has a character in its path that must be percent-encoded".to_owned());
    }
    if is_dots(&literal) {
        return Err("has a `.` or `..` in its path".to_owned());
    }
    let open = template.parts().iter().any(|part| matches!(part, Part::Parameter { open: true, .. }));
    if open && template.whole().is_none() {
        return Err("has a {+name} that shares its segment".to_owned());
    }
    Ok(template)
}

/// `.` and `..`, also where they are percent-encoded: for URLs these are the same.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn header(name: &str, text: &str) -> Result<(String, Template), String> {
    let lower = name.to_ascii_lowercase();
    if !is_token(&lower) {
        return Err("is no name of a header".to_owned());
    }
    if !is_a_tools(&lower) {
        return Err("is not a tool's to set".to_owned());
    }
    let template = Template::parse(text)?;
    if lower == "content-type" && template.parameters().next().is_some() {
        return Err("must be literal: it says how the body is written".to_owned());
    }
    let literal = |part: &Part| match part {
        Part::Literal(text) => is_header_value(text),
        Part::Parameter { open, .. } => !open,
    };
    if !template.parts().iter().all(literal) {
        return Err("must have visible ASCII characters, spaces and {name} only".to_owned());
    }
    Ok((lower, template))
}

pub(super) fn is_header_value(text: &str) -> bool {
    text.len() <= MAX_HEADER && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn is_form(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
}

/// Calls `see` with every text of a JSON value that may be a template.
fn each_text(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(members) => members.values().for_each(|member| each_text(member, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_body(body: &Value, is_form: bool) -> Result<(), String> {
    let mut wrong = None;
    each_text(body, &mut |text| {
        if let Err(error) = Template::parse(text) {
            wrong.get_or_insert(error);
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let flat = |body: &Value| {
        body.as_object().is_some_and(|members| members.values().all(|member| plain(member).is_some()))
    };
    if is_form && !flat(body) {
        return Err("of a form must be an object of texts".to_owned());
    }
    Ok(())
}

fn not_plain(name: &str) -> Error {
    Error::field(format!("input.{name}"), "must be a string, a number or a boolean")
}

fn render_segment(segment: &Template, input: &Map<String, Value>) -> Result<String> {
    let mut rendered = String::new();
    for part in segment.parts() {
        match part {
            Part::Literal(text) => rendered.push_str(text),
            Part::Parameter { name, open } => {
                let given = value(input, name).ok_or_else(|| {
                    Error::field(format!("input.{name}"), "is required: it stands in the path")
                })?;
                let text = plain(given).ok_or_else(|| not_plain(name))?;
                rendered.push_str(&render_path_value(name, &text, *open)?);
            }
        }
    }
    if is_dots(&rendered) {
        let names = segment.parameters().collect::<Vec<_>>().join(", ");
        return Err(Error::field(format!("input.{names}"), "must not make a `.` or `..` of its path"));
    }
    Ok(rendered)
}

/// Servers take an encoded slash for a slash, so that a value with one is refused and not encoded.
fn render_path_value(name: &str, text: &str, open: bool) -> Result<String> {
    let refused = |why: &str| Err(Error::field(format!("input.{name}"), why));
    if text.is_empty() {
        return refused("must not be empty: it stands in the path");
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return refused("must not contain a backslash or a control character: it stands in the path");
    }
    if !open {
        return match text.contains('/') {
            true => refused("must not contain a slash: it is one segment of the path"),
            false => Ok(escape(text)),
        };
    }
    if text.split('/').any(|segment| segment.is_empty() || is_dots(segment)) {
        return refused("must have no empty segment, and none that is `.` or `..`");
    }
    Ok(text.split('/').map(escape).collect::<Vec<_>>().join("/"))
}

/// The values of a parameter of a query or a field of a form: a list gives each of its items.
fn render_values(template: &Template, input: &Map<String, Value>) -> Result<Vec<String>> {
    if let Some(Value::Array(items)) = template.whole().and_then(|name| value(input, name)) {
        let name = template.whole().unwrap_or_default();
        return items.iter().map(|item| plain(item).ok_or_else(|| not_plain(name))).collect();
    }
    Ok(template.fill(input).map_err(|name| not_plain(&name))?.into_iter().collect())
}

fn render_form(body: &Value, input: &Map<String, Value>) -> Result<String> {
    let mut pairs = Vec::new();
    for (name, field) in body.as_object().into_iter().flatten() {
        let template = template(&plain(field).unwrap_or_default())?;
        for text in render_values(&template, input)? {
            pairs.push(format!("{}={}", escape(name), escape(&text)));
        }
    }
    Ok(pairs.join("&"))
}

fn render_json(body: &Value, input: &Map<String, Value>) -> Result<Option<Value>> {
    Ok(match body {
        Value::String(text) => {
            let template = template(text)?;
            match template.whole() {
                Some(name) => value(input, name).cloned(),
                None => template.fill(input).map_err(|name| not_plain(&name))?.map(Value::String),
            }
        }
        Value::Array(items) => {
            let items: Result<Vec<_>> = items.iter().map(|item| render_json(item, input)).collect();
            Some(Value::Array(items?.into_iter().flatten().collect()))
        }
        Value::Object(members) => {
            let mut rendered = Map::new();
            for (name, member) in members {
                if let Some(member) = render_json(member, input)? {
                    rendered.insert(name.clone(), member);
                }
            }
            Some(Value::Object(rendered))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(body.clone()),
    })
}

fn template(text: &str) -> Result<Template> {
    Template::parse(text).map_err(|wrong| Error::internal(format!("a stored template {wrong}")))
}
