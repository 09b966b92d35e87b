//! Tools that take any request of some methods at or below one URL: for programs that make their requests themselves. What is
//! literal is the origin and the beginning of the path; the rest is the caller's, but for headers that are not a tool's to set.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Placement;
use super::origin::Origin;
use super::request::{MAX_URL, Rendered, is_a_tools, is_header_value, is_token, segment, split_url};
use crate::http::Method;
use crate::{Error, Result};

/// Most headers of a request that travel.
const MAX_HEADERS: usize = 64;

/// Headers by which some servers take another method, path or host than the request's own.
const OVERRIDES: [&str; 9] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-original-host",
    "x-host",
    "x-real-ip",
];

/// Headers by which an answer comes in pieces: from an API that echoes it, a credential would come in pieces too small to be known.
const PIECES: [&str; 2] = ["range", "if-range"];

/// Whether a header of the caller's travels. Servers that make variables of headers take `_` for `-`.
fn travels(lower: &str, placement: Option<&Placement>) -> bool {
    let read = lower.replace('_', "-");
    let read = read.as_str();
    is_a_tools(read)
        && !OVERRIDES.contains(&read)
        && placement.is_none_or(|placement| {
            let taken = placement.header().map(|header| header.replace('_', "-"));
            !PIECES.contains(&read) && taken.as_deref() != Some(read)
        })
}

/// Any request of some methods, at a URL or below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnyRequest {
    /// At least one, each once.
    methods: Vec<Method>,
    origin: Origin,
    /// Empty, or from its slash on, without one at its end.
    below: String,
}

impl AnyRequest {
    /// `url` is origin and path; all that is below the path is meant too.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(methods: &[Method], url: &str) -> Result<Self, String> {
        let (origin, path) = split_url(url)?;
        let below = path.trim_end_matches('/');
        for text in below.split('/').skip(1) {
            if text.is_empty() {
                return Err("has an empty segment in its path".to_owned());
            }
            if segment(text)?.parameters().next().is_some() {
                return Err(
                    "must be literal: of a tool with `methods` it is where all requests begin".to_owned()
                );
            }
        }
        let mut each = Vec::new();
        for method in methods {
            if !each.contains(method) {
                each.push(*method);
            }
        }
        Ok(Self { methods: each, origin, below: below.to_owned() })
    }

    /// The methods that it takes.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Where it goes.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where all requests begin.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.below)
    }

    /// What its input must be: a request.
    pub fn input_schema(&self) -> Map<String, Value> {
        let schema = json!({
            "type": "object",
            "properties": {
                "method": { "enum": self.methods },
                "path": {
                    "type": "string",
                    "pattern": "^/",
                    "description": format!("The path as it is sent, at {}/ or below it", self.below),
                },
                "query": { "type": "string", "description": "The query as it is sent, without the question mark" },
                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                "body": { "type": "string" },
            },
            "required": ["method", "path"],
            "additionalProperties": false,
        });
        match schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }

    /// The request that the input is. What it has where the credential goes does not travel.
    ///
    /// # Errors
    /// `Validation`, naming the member of the input that cannot be sent.
    pub(super) fn render(
        &self,
        input: &Map<String, Value>,
        placement: Option<&Placement>,
    ) -> Result<Rendered> {
        let wrong = |name: &str, why: &str| Error::field(format!("input.{name}"), why);
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        let method = text("method")
            .and_then(|name| self.methods.iter().find(|method| method.as_str() == name))
            .ok_or_else(|| wrong("method", "is none of the tool's"))?;
        let path = text("path").ok_or_else(|| wrong("path", "is required"))?;
        self.check_path(path).map_err(|why| wrong("path", why))?;
        let mut url = format!("{}{path}", self.origin);
        if let Some(query) = text("query") {
            if !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
                return Err(wrong("query", "has a character that must be percent-encoded"));
            }
            let own =
                |pair: &&str| !matches!(placement, Some(Placement::Query { name }) if is_named(pair, name));
            let pairs: Vec<&str> = query.split('&').filter(own).collect();
            if pairs.iter().any(|pair| !pair.is_empty()) {
                url.push('?');
                url.push_str(&pairs.join("&"));
            }
        }
        if url.len() > MAX_URL {
            return Err(Error::field("input", format!("makes a URL of more than {MAX_URL} bytes")));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in input.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let lower = name.to_ascii_lowercase();
            if !is_token(&lower) {
                return Err(wrong("headers", "has a name that is none of a header"));
            }
            if travels(&lower, placement) {
                let value = value.as_str().filter(|text| is_header_value(text)).ok_or_else(|| {
                    wrong(&format!("headers.{lower}"), "must have visible ASCII characters and spaces only")
                })?;
                headers.insert(lower, value.to_owned());
            }
        }
        if headers.len() > MAX_HEADERS {
            return Err(wrong("headers", "has more than 64 members"));
        }
        let body = text("body").map(str::to_owned);
        if body.is_some() && matches!(method, Method::Get | Method::Head) {
            return Err(wrong("body", "goes with POST, PUT, PATCH and DELETE only"));
        }
        Ok(Rendered { method: *method, url, headers: headers.into_iter().collect(), body })
    }

    /// Whether this path, as it is sent, is at or below the tool's, for whoever reads it: servers disagree on what an encoded slash
    /// is, what follows a semicolon, and where a path ends.
    fn check_path(&self, path: &str) -> Result<(), &'static str> {
        if !path.starts_with('/') {
            return Err("must begin with a slash");
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(c);
        if !path.chars().all(allowed) {
            return Err("has a character that must be percent-encoded");
        }
        let below = path.strip_prefix(self.below.as_str()).ok_or("is not below the tool's URL")?;
        if !below.is_empty() && !below.starts_with('/') {
            return Err("is not below the tool's URL");
        }
        let mut read = path.to_owned();
        // Some decode twice.
        for _ in 0..3 {
            let steps = |text: &str| {
                text.split(['/', '\\']).any(|segment| {
                    matches!(segment.split([';', '?', '#']).next().unwrap_or_default().trim(), "." | "..")
                })
            };
            if steps(&read) {
                return Err("has a `.` or `..` in it");
            }
            // What is longer than it must be (`%c0%ae`) some read as a dot.
            read = match percent_decode_str(&read).decode_utf8() {
                Ok(read) if !read.chars().any(char::is_control) => read.into_owned(),
                _ => return Err("has what is no UTF-8 text, or a control character, in it"),
            };
        }
        Ok(())
    }
}

/// Whether a pair of a query has this name.
fn is_named(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&given).decode_utf8_lossy() == name
}
