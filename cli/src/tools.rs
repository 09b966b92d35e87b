//! `agent-identity tools`: what agents may have called with credentials that they do not get.

use std::path::PathBuf;
use std::process::ExitCode;

use agent_identity_api::{parse_tool, shown_tool};
use agent_identity_core::grant::Principal;
use agent_identity_core::name::ToolName;
use agent_identity_core::tool::ToolFlow;
use agent_identity_core::tool::openapi::{Described, import};
use agent_identity_service::Services;
use agent_identity_service::page::PageRequest;
use agent_identity_service::tool::{DeleteTool, GetTool, ListTools, PutTool};
use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Map, Value, json};

use crate::store::{StoreArgs, administrator};
use crate::{CommandError, CommandResult, input, output};

/// Most bytes of a document.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Tools on a page of the list.
const PAGE: usize = 100;

/// Options of `tools`.
#[derive(Debug, clap::Args)]
pub struct ToolsArgs {
    #[command(subcommand)]
    command: ToolsCommand,
}

#[derive(Debug, Subcommand)]
enum ToolsCommand {
    /// Make a tool of each operation of an OpenAPI 3 document
    Import(Box<ImportArgs>),
    /// Store a tool, in place of the one with its name
    Put {
        /// The body of PutTool in JSON; - is stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Print a tool
    Get {
        /// Its name
        #[arg(value_parser = ToolName::parse)]
        name: ToolName,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// List the tools
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete tools
    Delete {
        /// Their names
        #[arg(required = true, value_parser = ToolName::parse)]
        names: Vec<ToolName>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The document, JSON or YAML; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Agents that may call the tools: names of workload identities, with * for any run of characters (repeatable)
    #[arg(long, value_name = "AGENT", required = true)]
    allow: Vec<String>,
    /// The credential provider whose credential they are called with; none for an API that is open to all
    #[arg(long, value_name = "NAME", requires = "flow")]
    provider: Option<String>,
    /// How the credential is got
    #[arg(long, value_name = "FLOW", value_parser = ToolFlow::ALL.map(ToolFlow::as_str), requires = "provider")]
    flow: Option<String>,
    /// Scopes that the token must have (repeatable)
    #[arg(long, value_name = "SCOPE", requires = "provider")]
    scope: Vec<String>,
    /// Where the credential goes, in JSON such as {"location": "HEADER", "name": "x-api-key"}; default: a bearer token
    #[arg(long, value_name = "JSON", requires = "provider")]
    placement: Option<String>,
    /// Only operations whose id, tag or `METHOD /path` is this, with * for any run of characters (repeatable)
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// What the names of the tools begin with
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// The URL that the paths are below, instead of the document's own server
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command.
///
/// # Errors
/// When the store or the document cannot be used, or a tool is refused.
pub async fn run(args: ToolsArgs) -> CommandResult<ExitCode> {
    let admin = administrator();
    match args.command {
        ToolsCommand::Import(args) => return import_document(&admin, *args).await,
        ToolsCommand::Put { file, store } => {
            let body: Map<String, Value> =
                serde_json::from_str(&input::text_of(&file, "FILE", MAX_BYTES)?)
                    .map_err(|error| CommandError(format!("FILE is no JSON object: {error}")))?;
            let services = store.services(false).await?;
            let tool = services.put_tool(admin.authorize(parse_tool(body)?)?).await?;
            output::print(&format!(
                "stored the tool {}, version {}; it holds within 30 seconds",
                tool.name, tool.version
            ))?;
        }
        ToolsCommand::Get { name, store, json } => {
            let services = store.services(false).await?;
            let shown = shown_tool(&services.get_tool(admin.authorize(GetTool { name })?).await?);
            output::print(&if json { shown.to_string() } else { format!("{shown:#}") })?;
        }
        ToolsCommand::List { store, json } => {
            let services = store.services(false).await?;
            list(&services, &admin, json).await?;
        }
        ToolsCommand::Delete { names, store } => {
            let services = store.services(false).await?;
            for name in names {
                services.delete_tool(admin.authorize(DeleteTool { name: name.clone() })?).await?;
                output::print(&format!("deleted the tool {name}, within 30 seconds"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(services: &Services, admin: &Principal, json: bool) -> CommandResult {
    let mut table = Table::new();
    table.set_header(["tool", "request", "credential", "agents"]);
    let (mut all, mut next_token) = (Vec::new(), None);
    loop {
        let page = PageRequest { max_results: PAGE, next_token };
        let found = services.list_tools(admin.authorize(ListTools { workload: None, page })?).await?;
        for tool in &found.items {
            let shown = shown_tool(tool);
            let text =
                |pointer: &str| shown.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            let agents: Vec<&str> = shown
                .get("allowedWorkloads")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let methods = shown.pointer("/request/methods").and_then(Value::as_array).into_iter().flatten();
            let methods: Vec<&str> = methods.filter_map(Value::as_str).collect();
            let request = if methods.is_empty() {
                format!("{} {}", text("/request/method"), text("/request/url"))
            } else {
                format!("{} {} and below", methods.join(" "), text("/request/url"))
            };
            table.add_row([text("/name"), request, text("/credential/providerName"), agents.join("\n")]);
            all.push(shown);
        }
        next_token = found.next_token;
        if next_token.is_none() {
            break;
        }
    }
    output::print(&if json { Value::Array(all).to_string() } else { table.to_string() })
}

async fn import_document(admin: &Principal, args: ImportArgs) -> CommandResult<ExitCode> {
    let text = input::text_of(&args.file, "FILE", MAX_BYTES)?;
    let document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| CommandError(format!("FILE is not JSON: {error}")))?
    } else {
        serde_yaml_ng::from_str(&text).map_err(|error| CommandError(format!("FILE is not YAML: {error}")))?
    };
    let found =
        import(&document, args.server.as_deref()).map_err(|wrong| CommandError(format!("FILE {wrong}")))?;
    let mut left_out: Vec<(String, String)> =
        found.left_out.into_iter().map(|it| (it.operation, it.reason)).collect();
    let chosen = found.tools.into_iter().filter(|tool| args.chooses(tool));
    let services = if args.dry_run { None } else { Some(args.store.services(false).await?) };
    let mut made = Vec::new();
    for tool in chosen {
        let (operation, url) = (tool.operation.clone(), tool.request.url.clone());
        match args.put_tool(tool) {
            Err(error) => left_out.push((operation, error.0)),
            Ok(action) => {
                let name = action.name.clone();
                if let Some(services) = &services {
                    services
                        .put_tool(admin.authorize(action)?)
                        .await
                        .map_err(|error| CommandError(format!("{operation}: {error}")))?;
                }
                if !args.json {
                    output::print(&format!(
                        "{name}  {}  {url}",
                        operation.split(' ').next().unwrap_or_default()
                    ))?;
                }
                made.push(name);
            }
        }
    }
    if args.json {
        let left_out =
            left_out.iter().map(|(operation, reason)| json!({ "operation": operation, "reason": reason }));
        let said = json!({ "tools": made, "leftOut": Value::from_iter(left_out), "dryRun": args.dry_run });
        output::print(&said.to_string())?;
    } else {
        for (operation, reason) in &left_out {
            output::complain(&format!("left out {operation}: it {reason}"));
        }
        let verb = if args.dry_run { "would make" } else { "made" };
        output::complain(&format!("{verb} {} tools, left out {} operations", made.len(), left_out.len()));
    }
    if made.is_empty() {
        return Err(CommandError("no operation of the document is a tool that was asked for".to_owned()));
    }
    Ok(ExitCode::SUCCESS)
}

impl ImportArgs {
    fn chooses(&self, tool: &Described) -> bool {
        let matches = |pattern: &String| {
            let pattern = agent_identity_core::grant::Pattern::from(pattern.as_str());
            let mut names = [&tool.name, &tool.operation].into_iter().chain(&tool.tags);
            names.any(|name| pattern.matches(name))
        };
        self.only.is_empty() || self.only.iter().any(matches)
    }

    /// As a request of PutTool, by its rules.
    fn put_tool(&self, tool: Described) -> CommandResult<PutTool> {
        let request = json!({
            "method": tool.request.method,
            "url": tool.request.url,
            "query": tool.request.query,
            "headers": tool.request.headers,
            "body": tool.request.body,
        });
        let name = format!("{}{}", self.prefix, tool.name);
        let mut body = json!({
            "name": name.chars().take(128).collect::<String>(),
            "description": tool.description,
            "inputSchema": tool.input_schema,
            "request": request,
            "allowedWorkloads": self.allow,
        });
        if let (Some(provider), Some(flow)) = (&self.provider, &self.flow) {
            let mut credential = json!({ "providerName": provider, "flow": flow, "scopes": self.scope });
            if let Some(placement) = &self.placement {
                let placement: Value = serde_json::from_str(placement)
                    .map_err(|error| CommandError(format!("--placement is not JSON: {error}")))?;
                add(&mut credential, "placement", placement);
            }
            add(&mut body, "credential", credential);
        }
        let members: Map<String, Value> = serde_json::from_value(body)?;
        Ok(parse_tool(members)?)
    }
}

fn add(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}
