//! Use cases on tools (`design.md` 11); calling them is [`crate::invoke`].

use std::sync::Arc;

use agent_identity_core::error::{ErrorKind, FieldError};
use agent_identity_core::grant::{Action, Authorized, Pattern, Principal, Role};
use agent_identity_core::name::ToolName;
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::store::{Consistency, StoreError};
use agent_identity_core::tag::{self, Tags};
use agent_identity_core::tool::{
    InjectableHosts, Origin, Placement, Tool, ToolCredential, ToolFlow, ToolRequest,
};
use agent_identity_core::{Error, Id, ProviderName, Result, WorkloadName};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::Services;
use crate::directory::{ATTEMPTS, NotWritten, not_found, same_record};
use crate::page::{Page, PageRequest};

/// Most bytes of a tool's schema, and of its body, each.
const MAX_DOCUMENT: usize = 64 * 1024;

/// A tool as it is asked for.
#[derive(Clone, Debug)]
pub struct PutTool {
    /// Its name.
    pub name: ToolName,
    /// What it does.
    pub description: String,
    /// What its input must be.
    pub input_schema: Map<String, Value>,
    /// What is sent.
    pub request: ToolRequest,
    /// With which credential.
    pub credential: Option<ToolCredential>,
    /// Which workloads may call it.
    pub allowed_workloads: Vec<Pattern>,
}

impl Action for PutTool {
    const OPERATION: &'static str = "PutTool";

    fn role(&self) -> Role {
        Role::Admin
    }

    fn provider(&self) -> Option<&ProviderName> {
        self.credential.as_ref().map(|credential| &credential.provider)
    }

    /// It says which workloads may call it, and is found by its name among the tools of all.
    fn concerns_all_workloads(&self) -> bool {
        true
    }

    fn concerns_all_providers(&self) -> bool {
        self.credential.is_none()
    }
}

/// Reads a tool.
#[derive(Clone, Debug)]
pub struct GetTool {
    /// Its name.
    pub name: ToolName,
}

/// Deletes a tool.
#[derive(Clone, Debug)]
pub struct DeleteTool {
    /// Its name.
    pub name: ToolName,
}

/// Lists tools.
#[derive(Clone, Debug)]
pub struct ListTools {
    /// Those that this workload may call, for who may let it use them; all of them for an administrator.
    pub workload: Option<WorkloadName>,
    /// Which page.
    pub page: PageRequest,
}

macro_rules! of_administrators {
    ($type:ty, $operation:literal) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }
        }
    };
}
of_administrators!(GetTool, "GetTool");
of_administrators!(DeleteTool, "DeleteTool");

impl Action for ListTools {
    const OPERATION: &'static str = "ListTools";

    fn role(&self) -> Role {
        if self.workload.is_some() { Role::Use } else { Role::Admin }
    }

    fn workload(&self) -> Option<&WorkloadName> {
        self.workload.as_ref()
    }
}

/// A tool that can be called: what its input must be is read.
pub(crate) struct LiveTool {
    pub(crate) tool: Tool,
    validator: Validator,
}

impl LiveTool {
    fn new(tool: Tool) -> Result<Self> {
        let validator = validator(&tool.input_schema)
            .map_err(|wrong| Error::internal(format!("a stored schema {wrong}")))?;
        Ok(Self { tool, validator })
    }

    /// # Errors
    /// `Validation`, with each member of the input that is not as the schema says.
    pub(crate) fn check(&self, input: &Value) -> Result<()> {
        let wrong: Vec<_> = self
            .validator
            .iter_errors(input)
            .take(16)
            .map(|error| {
                let at = error.instance_path().as_str().replace('/', ".");
                FieldError { name: format!("input{at}"), message: error.masked().to_string() }
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(Error::fields(wrong)) }
    }
}

/// Nothing is fetched for a schema, and a pattern takes linear time.
fn validator(schema: &Map<String, Value>) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&Value::Object(schema.clone()))
        .map_err(|error| format!("is no JSON Schema that can be used: {error}"))
}

/// What is wrong with a tool that is asked for, as far as it says so itself.
fn check(tool: &PutTool) -> Result<()> {
    let mut wrong = Vec::new();
    let mut note = |name: &str, message: String| {
        wrong.push(FieldError { name: name.to_owned(), message });
    };
    let schema = &tool.input_schema;
    let size = |value: &Value| value.to_string().len();
    if size(&Value::Object(schema.clone())) > MAX_DOCUMENT {
        note("inputSchema", format!("must have at most {MAX_DOCUMENT} bytes"));
    } else if schema.get("type").and_then(Value::as_str) != Some("object") {
        note("inputSchema", "must have the type `object`".to_owned());
    } else if let Err(message) = validator(schema) {
        note("inputSchema", message);
    }
    if let ToolRequest::Template(template) = &tool.request {
        if template.parts().body.is_some_and(|body| size(&body) > MAX_DOCUMENT) {
            note("request.body", format!("must have at most {MAX_DOCUMENT} bytes"));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for name in template.parameters() {
            if !properties.is_some_and(|properties| properties.contains_key(&name)) {
                note("request", format!("has a parameter `{name}` that is no property of inputSchema"));
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in template.path_parameters() {
            if !required.is_some_and(|required| required.iter().any(|it| it.as_str() == Some(name))) {
                note("inputSchema.required", format!("must name `{name}`: it stands in the path"));
            }
        }
    }
    if let Some(ToolCredential { flow, scopes, resources, audiences, placement, .. }) = &tool.credential {
        let parameter = match placement {
            Placement::Query { name } => Some(name.as_str()),
            Placement::Bearer | Placement::Header { .. } | Placement::Basic { .. } => None,
        };
        if let ToolRequest::Template(template) = &tool.request
            && template.sets(placement.header(), parameter)
        {
            note("credential.placement", "is where the request has something of its own".to_owned());
        }
        if *flow == ToolFlow::ApiKey && !(scopes.is_empty() && resources.is_empty() && audiences.is_empty()) {
            note("credential", "of an API key has neither scopes nor resources nor audiences".to_owned());
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::fields(wrong)) }
}

/// D3: whether credentials of a provider with these tags may be sent there.
///
/// # Errors
/// `Validation`, with what would allow it.
pub(crate) fn may_inject(tags: &Tags, provider: &ProviderName, origin: &Origin) -> Result<()> {
    let hosts = tags.get(tag::INJECTABLE_HOSTS).map(|hosts| InjectableHosts::parse(hosts)).transpose();
    match hosts {
        Ok(Some(hosts)) if hosts.admit(origin) => Ok(()),
        _ => Err(Error::field(
            "request.url",
            format!(
                "goes to {}, and the credentials of the provider `{provider}` may not be sent there: its tag `{}` does not name it",
                origin.authority(),
                tag::INJECTABLE_HOSTS
            ),
        )),
    }
}

impl Services {
    /// Makes a tool, or replaces it whole. It holds everywhere within 30 seconds.
    ///
    /// # Errors
    /// `Validation`; `NotFound` for a provider that is not there; `AccessDenied` for a tool that calls with the credentials of a
    /// provider which is not the caller's; `Conflict` when others keep writing.
    pub async fn put_tool(&self, authorized: Authorized<'_, PutTool>) -> Result<Tool> {
        check(authorized.action())?;
        let principal = authorized.principal();
        let PutTool { name, description, input_schema, request, credential, allowed_workloads } =
            authorized.into_action();
        if let Some(ToolCredential { provider, flow, .. }) = &credential {
            let tags = match flow {
                ToolFlow::ApiKey => {
                    self.by_name::<ApiKeyProvider>(provider.as_str(), Consistency::Strong).await?.value.tags
                }
                ToolFlow::UserFederation | ToolFlow::M2m => {
                    self.by_name::<Oauth2Provider>(provider.as_str(), Consistency::Strong).await?.value.tags
                }
            };
            may_inject(&tags, provider, request.origin())?;
        }
        let now = self.now();
        let mut tool = Tool {
            id: Id::random(&*self.ports.random),
            name,
            description,
            input_schema,
            request,
            credential,
            allowed_workloads,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let name = tool.name.clone();
        for _ in 0..ATTEMPTS {
            let before = match self.by_name::<Tool>(name.as_str(), Consistency::Strong).await {
                Ok(before) => before.value,
                Err(error) if error.kind() == ErrorKind::NotFound => match self.create_named(&tool).await {
                    Ok(()) => return Ok(tool),
                    Err(NotWritten { error, may_be_there: false }) if error.kind() == ErrorKind::Conflict => {
                        continue;
                    }
                    Err(failed) => return Err(failed.error),
                },
                Err(error) => return Err(error),
            };
            administers(principal, PutTool::OPERATION, &before)?;
            let changed = self
                .update_named(name.as_str(), |stored: &Tool| {
                    same_record(before.id, stored.id)?;
                    administers(principal, PutTool::OPERATION, stored)?;
                    Ok(Tool {
                        id: stored.id,
                        version: stored.version.saturating_add(1),
                        created_at: stored.created_at,
                        ..tool.clone()
                    })
                })
                .await;
            self.caches.tools.forget(name.as_str()).await;
            match changed {
                Ok(changed) => return Ok(changed.after),
                // It was deleted meanwhile.
                Err(failed) if matches!(failed.error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                    tool.id = Id::random(&*self.ports.random);
                }
                Err(failed) => return Err(failed.error),
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Reads a tool.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` for a tool of a provider that is not the caller's.
    pub async fn get_tool(&self, authorized: Authorized<'_, GetTool>) -> Result<Tool> {
        let name = authorized.action().name.as_str();
        let tool = self.by_name::<Tool>(name, Consistency::Strong).await?.value;
        administers(authorized.principal(), GetTool::OPERATION, &tool)?;
        Ok(tool)
    }

    /// Deletes a tool. It is called no more, everywhere within 30 seconds.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied` for a tool of a provider that is not the caller's.
    pub async fn delete_tool(&self, authorized: Authorized<'_, DeleteTool>) -> Result<()> {
        let name = authorized.action().name.as_str();
        let tool = self.by_name::<Tool>(name, Consistency::Strong).await?.value;
        administers(authorized.principal(), DeleteTool::OPERATION, &tool)?;
        self.delete_named::<Tool>(name).await?;
        self.caches.tools.forget(name).await;
        Ok(())
    }

    /// Lists tools by name, those that the reader may see. A page may have fewer than it could, also none, and a next one.
    ///
    /// # Errors
    /// `Validation` on `nextToken`.
    pub async fn list_tools(&self, authorized: Authorized<'_, ListTools>) -> Result<Page<Tool>> {
        let (principal, ListTools { workload, page }) = (authorized.principal(), authorized.action());
        let mut found = self.list_named::<Tool>(ListTools::OPERATION, page, |_| true).await?;
        found.items.retain(|tool| match workload {
            Some(workload) => {
                let provider = tool.credential.as_ref().map(|it| it.provider.as_str());
                tool.allows(workload)
                    && principal.allows(ListTools::OPERATION, Role::Use, Some(workload.as_str()), provider)
            }
            None => administers(principal, ListTools::OPERATION, tool).is_ok(),
        });
        Ok(found)
    }

    /// A page of the tools that a workload may call: for a session that the caller has verified.
    pub(crate) async fn tools_of(&self, workload: &WorkloadName, page: &PageRequest) -> Result<Page<Tool>> {
        let mut found = self.list_named::<Tool>(ListTools::OPERATION, page, |_| true).await?;
        found.items.retain(|tool| tool.allows(workload));
        Ok(found)
    }

    /// A tool as it was at most one cache life ago.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn live_tool(&self, name: &ToolName) -> Result<Arc<LiveTool>> {
        let read = async {
            let tool = self.by_name::<Tool>(name.as_str(), Consistency::Eventual).await?.value;
            Ok(Arc::new(LiveTool::new(tool)?))
        };
        self.caches.tools.get(name.as_str(), read).await
    }
}

/// Whether the tools of this one's provider are the caller's to manage; those of none are for who manages all.
fn administers(principal: &Principal, operation: &str, tool: &Tool) -> Result<()> {
    let is_administrator = match &tool.credential {
        Some(credential) => {
            principal.allows(operation, Role::Admin, None, Some(credential.provider.as_str()))
        }
        None => principal.allows_on_all_providers(operation, Role::Admin),
    };
    if is_administrator {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!(
            "{} is not authorized to perform {operation} on the tool `{}`: it takes the role admin on its credential provider",
            principal.name, tool.name
        ),
    ))
}

/// A tool that is not for this workload is as good as none.
pub(crate) fn callable<'a>(tool: &'a LiveTool, workload: &WorkloadName) -> Result<&'a Tool> {
    if tool.tool.allows(workload) { Ok(&tool.tool) } else { Err(not_found::<Tool>(tool.tool.name.as_str())) }
}
