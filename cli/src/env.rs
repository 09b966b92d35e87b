//! `agent-identity env`: what points official clients at a server (D22).

mod profile;

use std::path::Path;

use agent_identity_core::seal::Key32;
use serde_json::{Map, Value, json};

use crate::compose::{self, DEFAULT_REGION, Local, Settings};
use crate::data_dir::{DefaultKey, Running};
use crate::serve::challenge_answers;
use crate::{CommandError, CommandResult, DataArgs, output};

/// The address of a server that was told nothing else.
const DEFAULT_URL: &str = "http://127.0.0.1:7420";

/// Options of `env`.
#[derive(Debug, clap::Args)]
pub struct EnvArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The server's URL, when several run on this data directory
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print a JSON object of the variables
    #[arg(long)]
    json: bool,
    /// Write a profile of this name to the AWS configuration files instead, which leaves other AWS calls alone
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Region that clients sign for; default: that of the server, or us-east-1
    #[arg(long, value_name = "REGION", env = "AGENT_IDENTITY_REGION", value_parser = compose::region)]
    region: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When no server has run on this directory, several run and none is named, or somebody else answers on its port.
pub async fn run(args: EnvArgs) -> CommandResult {
    let (Endpoint { url, region, key }, _) =
        endpoint(&args.data.path()?, args.url.as_deref(), args.region).await?;
    if let Some(name) = &args.profile {
        let written = profile::write(name, &key, &url, &region)?;
        for path in written {
            output::complain(&format!("wrote profile `{name}` to {}", path.display()));
        }
        return output::print(&if args.json {
            json!({ "AWS_PROFILE": name }).to_string()
        } else {
            format!("export AWS_PROFILE='{name}'")
        });
    }
    let variables = variables(&key, &url, &region);
    if args.json {
        return output::print(&Value::Object(variables).to_string());
    }
    // A token or profile of another account would be sent along with our key.
    output::print("unset AWS_SESSION_TOKEN AWS_PROFILE")?;
    for (name, value) in &variables {
        // What comes from the environment goes to a shell: a quote in it must not end the text.
        let quoted = value.as_str().unwrap_or_default().replace('\'', r"'\''");
        output::print(&format!("export {name}='{quoted}'"))?;
    }
    Ok(())
}

/// A server, and what it takes from who may read its data directory.
pub struct Endpoint {
    /// Where it is.
    pub url: String,
    /// What is signed for.
    pub region: String,
    /// Its default key.
    pub key: DefaultKey,
}

/// The server of a data directory, which has proved that it is, and what is in the directory.
///
/// # Errors
/// When no server has run on this directory, several run and none is named, or somebody else answers on its port.
pub async fn endpoint(
    data: &Path,
    named: Option<&str>,
    region: Option<String>,
) -> CommandResult<(Endpoint, Local)> {
    let Some(key) = DefaultKey::read(data)? else {
        return Err(CommandError(format!(
            "there is no default access key in {}: start `agent-identity serve` on it first; a server that is reached from outside \
             has none, and takes keys that `agent-identity access-keys create` makes",
            data.display()
        )));
    };
    let local = compose::open(data, Settings::offline(DEFAULT_REGION)).await?;
    let url = find(data, named, &local.challenge_key).await?;
    let noted = Running::all(data).into_iter().find(|running| running.url == url);
    let region = region
        .or_else(|| noted.and_then(|running| running.region))
        .unwrap_or_else(|| DEFAULT_REGION.to_owned());
    Ok((Endpoint { url, region, key }, local))
}

/// The server's URL: the one named, the one that runs, or the one that ran last.
async fn find(data: &Path, named: Option<&str>, key: &Key32) -> CommandResult<String> {
    let impostor = |url: &str| {
        CommandError(format!(
            "somebody else answers at {url}: what listens there does not serve {}, and gets no credentials from here",
            data.display()
        ))
    };
    let noted = Running::all(data);
    if let Some(url) = named {
        // A name may lead elsewhere than the address that the server proves.
        let url = &url.trim_end_matches('/').replacen("//localhost:", "//127.0.0.1:", 1);
        return match challenge_answers(url, key).await? {
            Some(false) => Err(impostor(url)),
            Some(true) | None => takes_default_key(&noted, url).map(|()| url.clone()),
        };
    }
    let (mut live, mut taken) = (Vec::new(), None);
    for running in noted.iter().filter(|running| !running.stopped) {
        match challenge_answers(&running.url, key).await? {
            Some(true) if !live.contains(&running.url) => live.push(running.url.clone()),
            Some(false) => taken = Some(running.url.clone()),
            Some(true) | None => {}
        }
    }
    match (live.as_slice(), taken, noted.first()) {
        ([url], _, _) => takes_default_key(&noted, url).map(|()| url.clone()),
        ([], Some(url), _) => Err(impostor(&url)),
        ([], None, last) => {
            output::complain("note: no server is running on this data directory now");
            Ok(last.map_or(DEFAULT_URL.to_owned(), |last| last.url.clone()))
        }
        (several, _, _) => Err(CommandError(format!(
            "several servers run on this data directory; name one with --url: {}",
            several.join(", ")
        ))),
    }
}

/// A server that is reached from outside does not take the default key (D21).
fn takes_default_key(noted: &[Running], url: &str) -> CommandResult {
    if noted.iter().any(|running| running.url == url && !running.stopped && !running.default_key) {
        return Err(CommandError(format!(
            "the server at {url} has a public base URL and does not take the default access key: make one of your own with \
             `agent-identity access-keys create`, and set the endpoint yourself"
        )));
    }
    Ok(())
}

fn variables(key: &DefaultKey, url: &str, region: &str) -> Map<String, Value> {
    let no_proxy = |name: &str| {
        let before = std::env::var(name).unwrap_or_default();
        let mut hosts: Vec<&str> = before.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
        for host in ["127.0.0.1", "localhost", "::1"] {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts.join(",")
    };
    let pairs = [
        ("AWS_ACCESS_KEY_ID", key.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose().to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", url.to_owned()),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", url.to_owned()),
        ("BEDROCK_AGENTCORE_CP_ENDPOINT", url.to_owned()),
        ("BEDROCK_AGENTCORE_DP_ENDPOINT", url.to_owned()),
        ("NO_PROXY", no_proxy("NO_PROXY")),
        ("no_proxy", no_proxy("no_proxy")),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}
