//! Texts with parameters: `{name}` stands for what the input has under `name`, `{{` and `}}` for braces.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// All but the unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As it stands in a path or a query.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A text with parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    /// A parameter. One that is `open` may hold several segments of a path (RFC 6570 §3.2.3, `{+name}`).
    Parameter {
        name: String,
        open: bool,
    },
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

fn is_parameter_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.extend(from.chars().next());
                rest = after;
                continue;
            }
            let inside = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((name, after)) = inside else {
                return Err("has a brace that is neither part of {name} nor doubled".to_owned());
            };
            let (name, open) = name.strip_prefix('+').map_or((name, false), |name| (name, true));
            if !is_parameter_name(name) {
                return Err("has a parameter whose name is not [A-Za-z0-9_.-]+".to_owned());
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Parameter { name: name.to_owned(), open });
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names of its parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Its parameter, if it is nothing else.
    pub(super) fn whole(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Parameter { name, .. }] => Some(name),
            _ => None,
        }
    }

    /// The text with the input's values; none where a value is absent.
    ///
    /// # Errors
    /// The parameter whose value is no text, number or boolean.
    pub(super) fn fill(&self, input: &Map<String, Value>) -> Result<Option<String>, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => filled.push_str(text),
                Part::Parameter { name, .. } => match value(input, name) {
                    None => return Ok(None),
                    Some(value) => filled.push_str(&plain(value).ok_or_else(|| name.clone())?),
                },
            }
        }
        Ok(Some(filled))
    }
}

/// What the input has under `name`; null counts as absent.
pub(super) fn value<'a>(input: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    input.get(name).filter(|value| !value.is_null())
}

/// A text, number or boolean as text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
