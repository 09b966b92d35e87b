//! Tools from an OpenAPI 3 document: one for each operation that a tool can be.
//!
//! | of the operation | becomes |
//! |---|---|
//! | server and path | the URL; `{name}` of the path stays what it is |
//! | parameters in path, query and header | properties of the input |
//! | a JSON body | the property `body`, as it is |
//! | a form | a property for each field |
//! | `operationId` | the name |
//!
//! Cookies, files and styles of parameters that a query of texts cannot have are left out; where they are required, so is the
//! operation, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::RequestParts;
use super::request::FORM;
use crate::http::Method;

/// A tool as a document describes it: what remains to be said is with which credential, and for whom.
#[derive(Clone, Debug)]
pub struct Described {
    /// A name that is one of a tool, and used once.
    pub name: String,
    /// `GET /pets/{petId}`, as the document has it.
    pub operation: String,
    /// The operation's tags.
    pub tags: Vec<String>,
    /// Its summary or description.
    pub description: String,
    /// What its input must be.
    pub input_schema: Map<String, Value>,
    /// What is sent.
    pub request: RequestParts,
}

/// An operation that is no tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// As in [`Described::operation`].
    pub operation: String,
    /// Why.
    pub reason: String,
}

/// What a document gives.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// The tools, in the order of the document.
    pub tools: Vec<Described>,
    /// What is none.
    pub left_out: Vec<LeftOut>,
}

/// Longest name and description of a tool.
const MAX_NAME: usize = 128;
const MAX_DESCRIPTION: usize = 1024;

/// How deep references lead to references, at most.
const MAX_REFERENCES: usize = 32;

/// Larger schemas are not told to agents: they say that there is an object, and the API says what is wrong with it.
const MAX_SCHEMA: usize = 32 * 1024;

const METHODS: [(&str, Method); 6] = [
    ("get", Method::Get),
    ("head", Method::Head),
    ("post", Method::Post),
    ("put", Method::Put),
    ("patch", Method::Patch),
    ("delete", Method::Delete),
];

/// Reads a document. `server` takes the place of the servers that it names, which may be none, or none that is absolute.
///
/// # Errors
/// When it is no OpenAPI 3 document.
pub fn import(document: &Value, server: Option<&str>) -> Result<Import, String> {
    let version = document.get("openapi").and_then(Value::as_str).unwrap_or_default();
    if !version.starts_with("3.") {
        return Err(match document.get("swagger").and_then(Value::as_str) {
            Some(version) => {
                format!("is a Swagger {version} document: convert it to OpenAPI 3 first")
            }
            None => "is no OpenAPI 3 document: it has no `openapi: 3.…`".to_owned(),
        });
    }
    let paths = document.get("paths").and_then(Value::as_object).ok_or("has no `paths`")?;
    let (mut import, mut names) = (Import::default(), BTreeSet::new());
    for (path, item) in paths {
        let item = match resolved(document, item) {
            Ok(item) => item,
            Err(reason) => {
                import.left_out.push(LeftOut { operation: path.clone(), reason });
                continue;
            }
        };
        for (verb, method) in METHODS {
            let Some(operation) = item.get(verb) else { continue };
            let reading = Reading { document, server, path, item, operation, method };
            let name = format!("{} {path}", verb.to_ascii_uppercase());
            match reading.tool(&name, &mut names) {
                Ok(tool) => import.tools.push(tool),
                Err(reason) => import.left_out.push(LeftOut { operation: name, reason }),
            }
        }
    }
    Ok(import)
}

/// What `$ref` leads to, within the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> Result<&'a Value, String> {
    let mut value = value;
    for _ in 0..MAX_REFERENCES {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
        let pointer = reference.strip_prefix('#').ok_or("refers to another document")?;
        value = document
            .pointer(pointer)
            .ok_or_else(|| format!("refers to `{reference}`, which is not there"))?;
    }
    Err("has references that lead to each other".to_owned())
}

/// An operation of a document.
struct Reading<'a> {
    document: &'a Value,
    server: Option<&'a str>,
    path: &'a str,
    item: &'a Value,
    operation: &'a Value,
    method: Method,
}

/// The input and the request, as they grow.
#[derive(Default)]
struct Growing {
    properties: Map<String, Value>,
    required: Vec<Value>,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    /// Names of schemas that are referred to.
    wanted: BTreeSet<String>,
}

impl Growing {
    /// A property of this name, or of one like it where that is taken.
    fn property(&mut self, wanted: &str, place: &str, schema: Value, is_required: bool) -> String {
        let plain = plain_name(wanted);
        let name = if self.properties.contains_key(&plain) { format!("{plain}_{place}") } else { plain };
        if is_required {
            self.required.push(json!(name));
        }
        self.properties.insert(name.clone(), schema);
        name
    }
}

/// A name with nothing in it but what parameters of templates, and names of tools, may have.
fn plain_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    text.chars().map(plain).take(MAX_NAME).collect()
}

impl Reading<'_> {
    fn tool(&self, operation: &str, names: &mut BTreeSet<String>) -> Result<Described, String> {
        let mut growing = Growing::default();
        let mut path = self.path.to_owned();
        for parameter in self.parameters()? {
            self.add_parameter(&mut growing, &mut path, parameter)?;
        }
        self.add_body(&mut growing)?;
        let url = format!("{}{path}", self.base()?);
        let text = |name: &str| self.operation.get(name).and_then(Value::as_str).unwrap_or_default().trim();
        let description = match (text("summary"), text("description")) {
            ("", description) => description.to_owned(),
            (summary, "") => summary.to_owned(),
            (summary, description) => format!("{summary}\n\n{description}"),
        };
        let tags = self.operation.get("tags").and_then(Value::as_array).into_iter().flatten();
        Ok(Described {
            name: self.name(operation, names),
            operation: operation.to_owned(),
            tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
            description: description.chars().take(MAX_DESCRIPTION).collect(),
            input_schema: self.schema(&mut growing),
            request: RequestParts {
                method: self.method,
                url,
                query: growing.query,
                headers: growing.headers,
                body: growing.body,
            },
        })
    }

    fn name(&self, operation: &str, names: &mut BTreeSet<String>) -> String {
        let id = self.operation.get("operationId").and_then(Value::as_str).filter(|id| !id.trim().is_empty());
        let wanted = match id {
            Some(id) => plain_name(id.trim()),
            None => {
                let words =
                    operation.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
                plain_name(&words.collect::<Vec<_>>().join("_").to_ascii_lowercase())
            }
        };
        let numbered = (2_u32..).map(|number| {
            let suffix = format!("_{number}");
            let stem: String = wanted.chars().take(MAX_NAME.saturating_sub(suffix.len())).collect();
            format!("{stem}{suffix}")
        });
        let mut all = std::iter::once(wanted.clone()).chain(numbered);
        let name = all.find(|name| !names.contains(name)).unwrap_or(wanted);
        names.insert(name.clone());
        name
    }

    /// Those of the operation, and those of its path that it does not say anew.
    fn parameters(&self) -> Result<Vec<&Value>, String> {
        let mut all: Vec<&Value> = Vec::new();
        for owner in [self.operation, self.item] {
            for parameter in owner.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                let parameter = resolved(self.document, parameter)?;
                let key = |it: &Value| (it.get("name").cloned(), it.get("in").cloned());
                if !all.iter().any(|known| key(known) == key(parameter)) {
                    all.push(parameter);
                }
            }
        }
        // What stands in the path keeps its name.
        all.sort_by_key(|it| it.get("in").and_then(Value::as_str) != Some("path"));
        Ok(all)
    }

    fn add_parameter(
        &self,
        growing: &mut Growing,
        path: &mut String,
        parameter: &Value,
    ) -> Result<(), String> {
        let name = parameter.get("name").and_then(Value::as_str).ok_or("has a parameter without a name")?;
        let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
        let is_required = parameter.get("required").and_then(Value::as_bool).unwrap_or(place == "path");
        let left_out = |why: &str| {
            if is_required { Err(format!("needs the parameter `{name}`, {why}")) } else { Ok(()) }
        };
        if parameter.get("content").is_some() {
            return left_out("which is a document of its own");
        }
        let given = parameter.get("schema").cloned().unwrap_or_else(|| json!({}));
        let kind = resolved(self.document, &given)?.get("type").cloned();
        let is = |wanted: &str| match &kind {
            Some(Value::String(kind)) => kind == wanted,
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
            _ => false,
        };
        let style = parameter.get("style").and_then(Value::as_str);
        let explode = parameter.get("explode").and_then(Value::as_bool);
        let mut schema = self.rewritten(&given, growing);
        if let (Some(text), Some(members)) =
            (parameter.get("description").and_then(Value::as_str), schema.as_object_mut())
        {
            members
                .entry("description")
                .or_insert_with(|| json!(text.chars().take(MAX_DESCRIPTION).collect::<String>()));
        }
        match place {
            "path" if is("array") || is("object") || style.is_some_and(|style| style != "simple") => {
                Err(format!("has the path parameter `{name}` in a style that a tool has not"))
            }
            "path" => {
                let property = growing.property(name, "path", schema, true);
                let (before, after) = (format!("{{{name}}}"), format!("{{{property}}}"));
                if !path.contains(&before) {
                    return Err(format!("has a path parameter `{name}` that is not in its path"));
                }
                *path = path.replace(&before, &after);
                Ok(())
            }
            "query" if is("object") || style.is_some_and(|style| style != "form") => {
                left_out("which is in a style that a tool has not")
            }
            "query" => {
                if is("array") && explode == Some(false) {
                    schema = json!({ "type": "string", "description": format!("`{name}`: values, separated by commas") });
                }
                let property = growing.property(name, "query", schema, is_required);
                growing.query.insert(name.to_owned(), format!("{{{property}}}"));
                Ok(())
            }
            // The content's own, and the credential, are not a parameter's to say (OpenAPI 3.1 §4.8.12.1).
            "header"
                if ["accept", "content-type", "authorization"]
                    .contains(&name.to_ascii_lowercase().as_str()) =>
            {
                Ok(())
            }
            "header" if is("array") || is("object") => left_out("which is a header with several values"),
            "header" => {
                let property = growing.property(name, "header", schema, is_required);
                growing.headers.insert(name.to_owned(), format!("{{{property}}}"));
                Ok(())
            }
            _ => left_out("which is a cookie"),
        }
    }

    fn add_body(&self, growing: &mut Growing) -> Result<(), String> {
        let Some(body) = self.operation.get("requestBody") else { return Ok(()) };
        let body = resolved(self.document, body)?;
        let is_required = body.get("required").and_then(Value::as_bool).unwrap_or(false);
        let contents = body.get("content").and_then(Value::as_object).ok_or("has a body of no kind")?;
        let kind_of = |name: &str| name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json = |name: &str| {
            let kind = kind_of(name);
            kind == "application/json" || kind == "*/*" || kind.ends_with("+json")
        };
        if matches!(self.method, Method::Get | Method::Head) {
            return if is_required { Err("has a GET with a body".to_owned()) } else { Ok(()) };
        }
        let none = json!({});
        if let Some((name, content)) = contents.iter().find(|(name, _)| is_json(name)) {
            let schema = self.rewritten(content.get("schema").unwrap_or(&none), growing);
            let property = growing.property("body", "json", schema, is_required);
            growing.body = Some(json!(format!("{{{property}}}")));
            let kind = kind_of(name);
            if kind != "application/json" && kind != "*/*" {
                growing.headers.insert("Content-Type".to_owned(), kind);
            }
            return Ok(());
        }
        if let Some((_, content)) = contents.iter().find(|(name, _)| kind_of(name) == FORM) {
            let schema = resolved(self.document, content.get("schema").unwrap_or(&none))?;
            let fields =
                schema.get("properties").and_then(Value::as_object).ok_or("has a form without fields")?;
            let required: BTreeSet<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut form = Map::new();
            for (name, field) in fields {
                let schema = self.rewritten(field, growing);
                let property = growing.property(name, "form", schema, required.contains(name.as_str()));
                form.insert(name.clone(), json!(format!("{{{property}}}")));
            }
            growing.body = Some(Value::Object(form));
            growing.headers.insert("Content-Type".to_owned(), FORM.to_owned());
            return Ok(());
        }
        let kinds: Vec<&str> = contents.keys().map(String::as_str).collect();
        if is_required {
            Err(format!("has a body of {}, which no tool sends", kinds.join(", ")))
        } else {
            Ok(())
        }
    }

    /// The URL that its path is below.
    fn base(&self) -> Result<String, String> {
        if let Some(server) = self.server {
            return Ok(server.trim_end_matches('/').to_owned());
        }
        let first = |owner: &Value| owner.get("servers").and_then(Value::as_array)?.first().cloned();
        let server = first(self.operation)
            .or_else(|| first(self.item))
            .or_else(|| first(self.document))
            .ok_or("has no server: name one with --server")?;
        let mut url = server.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            let default = variable.get("default").and_then(Value::as_str).unwrap_or_default();
            url = url.replace(&format!("{{{name}}}"), default);
        }
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(format!("has the server `{url}`, which is no whole URL: name one with --server"));
        }
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// The whole schema of the input, with what it refers to.
    fn schema(&self, growing: &mut Growing) -> Map<String, Value> {
        let mut definitions = Map::new();
        while let Some(name) = growing.wanted.iter().find(|name| !definitions.contains_key(*name)).cloned() {
            let pointer = format!("/components/schemas/{}", name.replace('~', "~0").replace('/', "~1"));
            let schema = self.document.pointer(&pointer).cloned().unwrap_or_else(|| json!({}));
            let schema = self.rewritten(&schema, growing);
            definitions.insert(name, schema);
        }
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("properties".to_owned(), Value::Object(std::mem::take(&mut growing.properties)));
        schema.insert("additionalProperties".to_owned(), json!(false));
        if !growing.required.is_empty() {
            schema.insert("required".to_owned(), Value::Array(std::mem::take(&mut growing.required)));
        }
        if !definitions.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(definitions));
        }
        if Value::Object(schema.clone()).to_string().len() > MAX_SCHEMA {
            simplify(&mut schema);
        }
        schema
    }

    /// A schema of OpenAPI as one of JSON Schema 2020-12.
    fn rewritten(&self, schema: &Value, growing: &mut Growing) -> Value {
        match schema {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    if let Some(name) =
                        reference.strip_prefix("#/components/schemas/").filter(|name| !name.contains('/'))
                    {
                        let name = name.replace("~1", "/").replace("~0", "~");
                        growing.wanted.insert(name.clone());
                        return json!({ "$ref": format!("#/$defs/{}", name.replace('~', "~0").replace('/', "~1")) });
                    }
                    return json!({});
                }
                let mut rewritten = Map::new();
                for (name, member) in members {
                    match (name.as_str(), member) {
                        // Words of OpenAPI that are none of JSON Schema, and what is data and no schema.
                        (
                            "nullable" | "discriminator" | "xml" | "externalDocs" | "example" | "readOnly"
                            | "writeOnly" | "deprecated" | "$schema" | "$id" | "$anchor",
                            _,
                        ) => {}
                        (name, _) if name.starts_with("x-") => {}
                        ("enum" | "const" | "default" | "examples" | "required", _) => {
                            rewritten.insert(name.clone(), member.clone());
                        }
                        // For the API to check: a pattern that is of another language, or takes more than linear time.
                        ("pattern", Value::String(pattern)) if !is_regular(pattern) => {}
                        ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(is_exclusive)) => {
                            let bound = if name == "exclusiveMinimum" { "minimum" } else { "maximum" };
                            if let (true, Some(limit)) = (*is_exclusive, members.get(bound)) {
                                rewritten.insert(name.clone(), limit.clone());
                            }
                        }
                        ("properties", Value::Object(properties)) => {
                            let all = properties
                                .iter()
                                .map(|(name, it)| (name.clone(), self.rewritten(it, growing)));
                            let all: Map<String, Value> = all.collect();
                            rewritten.insert(name.clone(), Value::Object(all));
                        }
                        _ => {
                            rewritten.insert(name.clone(), self.rewritten(member, growing));
                        }
                    }
                }
                let is_nullable = members.get("nullable").and_then(Value::as_bool).unwrap_or(false);
                if let (true, Some(Value::String(kind))) = (is_nullable, rewritten.get("type").cloned()) {
                    rewritten.insert("type".to_owned(), json!([kind, "null"]));
                    if let Some(Value::Array(values)) = rewritten.get_mut("enum") {
                        values.push(Value::Null);
                    }
                }
                Value::Object(rewritten)
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.rewritten(item, growing)).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
        }
    }
}

/// Whether a pattern is one of a regular language, as far as its signs say: it looks around nowhere, and back at nothing.
fn is_regular(pattern: &str) -> bool {
    let refers_back = pattern.as_bytes().windows(2).any(|pair| matches!(pair, [b'\\', b'1'..=b'9' | b'k']));
    let looks_around = pattern.match_indices("(?").any(|(at, _)| pattern.get(at + 2..at + 3) != Some(":"));
    !looks_around && !refers_back
}

/// A schema that says of each property what kind of value it is, and no more.
fn simplify(schema: &mut Map<String, Value>) {
    schema.remove("$defs");
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let (_, value) = property;
        let kept = ["type", "description"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), value.get(name)?.clone())));
        *value = Value::Object(kept.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::RequestTemplate;

    fn document(paths: Value) -> Value {
        json!({
            "openapi": "3.0.3",
            "servers": [{ "url": "https://{region}.example.com/v1/", "variables": { "region": { "default": "eu" } } }],
            "paths": paths,
            "components": {
                "schemas": {
                    "Pet": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": { "type": "string", "nullable": true, "example": "Rex", "pattern": "(?=x)", "format": "x" },
                            "friend": { "$ref": "#/components/schemas/Pet" },
                            "age": { "type": "integer", "minimum": 0, "exclusiveMinimum": true },
                            "pattern": { "type": "string" }
                        }
                    }
                },
                "parameters": { "Limit": { "name": "limit", "in": "query", "schema": { "type": "integer" } } }
            }
        })
    }

    fn one(paths: Value) -> Described {
        let mut import = import(&document(paths), None).unwrap();
        assert!(import.left_out.is_empty(), "{:?}", import.left_out);
        assert_eq!(import.tools.len(), 1);
        import.tools.remove(0)
    }

    fn left_out(paths: Value) -> String {
        let import = import(&document(paths), None).unwrap();
        assert!(import.tools.is_empty(), "{:?}", import.tools);
        import.left_out[0].reason.clone()
    }

    #[test]
    fn an_operation_is_a_tool_whose_input_is_its_parameters_and_its_body() {
        let tool = one(json!({ "/pets/{pet-id}": {
            "parameters": [{ "name": "pet-id", "in": "path", "required": true, "schema": { "type": "string" } }],
            "put": {
                "operationId": "pets/update it", "summary": "Update a pet", "tags": ["pets"],
                "parameters": [
                    { "$ref": "#/components/parameters/Limit" },
                    { "name": "filter[kind]", "in": "query", "schema": { "type": "array", "items": { "type": "string" } } },
                    { "name": "X-Trace", "in": "header", "schema": { "type": "string" } },
                    { "name": "Authorization", "in": "header", "required": true, "schema": { "type": "string" } },
                    { "name": "pet-id", "in": "query", "schema": { "type": "string" } }
                ],
                "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" } } } }
            }
        } }));
        assert_eq!((tool.name.as_str(), tool.operation.as_str()), ("pets_update_it", "PUT /pets/{pet-id}"));
        assert_eq!(tool.request.url, "https://eu.example.com/v1/pets/{pet-id}");
        let schema = Value::Object(tool.input_schema.clone());
        assert_eq!(schema["required"], json!(["pet-id", "body"]));
        let names: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            Vec::from_iter(names),
            ["X-Trace", "body", "filter_kind_", "limit", "pet-id", "pet-id_query"]
        );
        assert_eq!(schema["properties"]["body"], json!({ "$ref": "#/$defs/Pet" }));
        let pet = &schema["$defs"]["Pet"]["properties"];
        assert_eq!(pet["name"], json!({ "type": ["string", "null"], "format": "x" }));
        assert_eq!(pet["age"]["exclusiveMinimum"], json!(0));
        assert_eq!(pet["pattern"], json!({ "type": "string" }), "a property may be called as a word is");
        let template = RequestTemplate::parse(tool.request).unwrap();
        let input = json!({
            "pet-id": "7", "pet-id_query": "8", "filter_kind_": ["a", "b"], "limit": 3, "body": { "name": "Rex" }
        });
        let rendered = template.render(input.as_object().unwrap()).unwrap();
        assert_eq!(
            rendered.url,
            "https://eu.example.com/v1/pets/7?filter%5Bkind%5D=a&filter%5Bkind%5D=b&limit=3&pet-id=8"
        );
        assert_eq!(rendered.body.as_deref(), Some(r#"{"name":"Rex"}"#));
    }

    #[test]
    fn a_form_has_a_property_for_each_field() {
        let tool = one(json!({ "/a": { "post": { "requestBody": { "content": { FORM: { "schema": {
            "type": "object", "required": ["x"], "properties": { "x": { "type": "string" }, "y": { "type": "integer" } }
        } } } } } } }));
        assert_eq!(tool.name, "post_a");
        let template = RequestTemplate::parse(tool.request).unwrap();
        let rendered = template.render(json!({ "x": "a b" }).as_object().unwrap()).unwrap();
        assert_eq!(rendered.body.as_deref(), Some("x=a%20b"));
    }

    #[test]
    fn what_cannot_be_a_tool_says_why() {
        let parameter = |parameter: Value| json!({ "/a/{p}": { "get": { "parameters": [parameter] } } });
        let required = |place: &str, more: Value| {
            let mut it =
                json!({ "name": "p", "in": place, "required": true, "schema": { "type": "object" } });
            it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parameter(it)
        };
        assert!(left_out(required("cookie", json!({}))).contains("cookie"));
        assert!(left_out(required("query", json!({ "style": "deepObject" }))).contains("style"));
        assert!(left_out(required("path", json!({}))).contains("style"));
        let file = json!({ "/a": { "post": { "requestBody": { "required": true, "content": { "multipart/form-data": {} } } } } });
        assert!(left_out(file).contains("multipart/form-data"));
        assert!(
            left_out(json!({ "/a": { "get": { "parameters": [{ "$ref": "other.json#/x" }] } } }))
                .contains("another document")
        );
        assert!(left_out(json!({ "/a": { "get": { "servers": [{ "url": "/v1" }] } } })).contains("--server"));
        assert!(import(&json!({ "swagger": "2.0" }), None).unwrap_err().contains("Swagger 2.0"));
        assert!(import(&json!({}), None).is_err());
    }

    #[test]
    fn names_are_used_once_and_a_named_server_takes_the_place_of_all() {
        let paths =
            json!({ "/a": { "get": { "operationId": "x y" } }, "/b": { "get": { "operationId": "x_y" } } });
        let import = import(&document(paths), Some("https://other.example/base/")).unwrap();
        let names: Vec<&str> = import.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["x_y", "x_y_2"]);
        assert_eq!(import.tools[0].request.url, "https://other.example/base/a");
    }

    #[test]
    fn schemas_that_refer_to_each_other_end() {
        let looped = json!({ "/a": { "$ref": "#/paths/~1a" } });
        assert!(left_out(looped).contains("lead to each other"));
    }
}
