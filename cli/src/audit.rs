//! `agent-identity audit`: what happened, for people, for export, and for who does not believe it (D18).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent_identity_core::audit::verify::{Report, Verifier};
use agent_identity_core::audit::{Day, END, LINES, Link, Record, SignedHead};
use agent_identity_core::port::HeadSigner;
use agent_identity_core::seal::Key32;
use agent_identity_local::Sha256;
use agent_identity_service::audit::{Found, Trail};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::store::{ReachArgs, StoreArgs};
use crate::{CommandError, CommandResult, output};

/// Days that are looked at, unless told otherwise.
const DAYS: i64 = 90;

/// Options of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show who changed what, and who got which credential, for which user and agent
    List(ListArgs),
    /// Print the trail whole, a JSON object a line, for `audit verify` elsewhere
    Export(DaysArgs),
    /// Say whether the trail is as it was written: exit code 1 if it is not
    Verify(VerifyArgs),
}

/// Which days of the trail, and whose.
#[derive(Debug, clap::Args)]
pub struct DaysArgs {
    /// From this day on (UTC); by default the last 90 days
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = Day::parse)]
    from: Option<Day>,
    /// To the end of this day (UTC); by default today
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = Day::parse)]
    to: Option<Day>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only what this principal did
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only this operation
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Only for this workload identity
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only of this credential provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only for this user, by key as `connections list` shows it
    #[arg(long, value_name = "KEY")]
    user_key: Option<String>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    days: DaysArgs,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// What `audit export` printed, or log lines of the functions on AWS; `-` is standard input. Without any: the trail itself
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    days: DaysArgs,
}

impl DaysArgs {
    /// The trail.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn trail(&self) -> CommandResult<Arc<Trail>> {
        let services = self.store.reaching(&ReachArgs::default()).await?;
        Ok(services.ports().trail.clone().ok_or("there is no audit trail")?)
    }

    /// The days, of which each has chains of its own.
    pub fn days(&self, trail: &Trail) -> impl Iterator<Item = Day> + use<> {
        let to = self.to.unwrap_or_else(|| trail.today()).number();
        let from = self.from.map_or(to.saturating_sub(DAYS), Day::number);
        (from..=to).map(Day::from_number)
    }

    /// Tells all of the trail in these days, as it comes from the store: it may be more than memory holds.
    ///
    /// # Errors
    /// Those of the store, and what `tell` says.
    pub async fn read(&self, trail: &Trail, mut tell: impl FnMut(Found) -> CommandResult) -> CommandResult {
        let mut told = Ok(());
        for day in self.days(trail) {
            trail
                .read(day, |found| {
                    if told.is_ok() {
                        told = tell(found);
                    }
                })
                .await?;
        }
        told
    }
}

/// Runs `audit`.
///
/// # Errors
/// When the data directory or a file cannot be read.
pub async fn run(args: AuditArgs) -> CommandResult<ExitCode> {
    match args.command {
        AuditCommand::List(args) => list(args).await.map(|()| ExitCode::SUCCESS),
        AuditCommand::Export(args) => export(args).await.map(|()| ExitCode::SUCCESS),
        AuditCommand::Verify(args) => verify(args).await,
    }
}

impl ListArgs {
    fn wants(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        // That a chain has ended is for who verifies it.
        record.operation != END
            && record.operation != LINES
            && is(&self.principal, Some(&record.principal))
            && is(&self.operation, Some(&record.operation))
            && is(&self.workload, record.workload.as_deref())
            && is(&self.provider, record.provider.as_deref())
            && is(&self.user_key, record.user.as_deref())
    }
}

async fn list(args: ListArgs) -> CommandResult {
    let trail = args.days.trail().await?;
    for day in args.days.days(&trail) {
        let mut records = Vec::new();
        trail
            .read(day, |found| match found {
                Found::Link(link) => {
                    records.extend(link.records.into_iter().filter(|record| args.wants(record)));
                }
                Found::Head(_) => {}
                Found::Unreadable(what) => output::complain(&format!("unreadable: {what}")),
            })
            .await?;
        records.sort_by_key(|record| record.at);
        for record in &records {
            let line = if args.json { serde_json::to_string(record)? } else { line(record) };
            output::print(&line)?;
        }
    }
    Ok(())
}

/// A record for people.
fn line(record: &Record) -> String {
    let at = record.at.and_then(|at| jiff::Timestamp::from_millisecond(at.as_millis()).ok());
    let at = at.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"));
    let mut line = format!("{at}  {}  {}  {}", record.operation, record.outcome, record.principal);
    for (name, value) in [
        ("workload", &record.workload),
        ("provider", &record.provider),
        ("user", &record.user),
        ("request", &record.request),
    ] {
        if let Some(value) = value {
            line.push_str(&format!("  {name}={value}"));
        }
    }
    if !record.changed.is_empty() {
        line.push_str(&format!("  changed: {}", record.changed.join(", ")));
    }
    line
}

async fn export(args: DaysArgs) -> CommandResult {
    let trail = args.trail().await?;
    args.read(&trail, |found| {
        output::print(
            &match found {
                Found::Link(link) => json!({ "link": link }),
                Found::Head(head) => json!({ "head": head }),
                Found::Unreadable(what) => json!({ "unreadable": what }),
            }
            .to_string(),
        )
    })
    .await
}

async fn verify(args: VerifyArgs) -> CommandResult<ExitCode> {
    // The key that heads are signed with is in the data directory; where there is none, chains are verified without.
    let trail = match args.days.trail().await {
        Ok(trail) => Some(trail),
        Err(_) if !args.files.is_empty() => None,
        Err(error) => return Err(error),
    };
    let digest = Sha256;
    let (mut seen, mut logged) = (Seen { verifier: Verifier::new(&digest), heads: Vec::new() }, Vec::new());
    match &trail {
        Some(trail) if args.files.is_empty() => {
            args.days
                .read(trail, |found| {
                    seen.take(found);
                    Ok(())
                })
                .await?;
        }
        _ => {
            for file in &args.files {
                read_file(file, &mut seen, &mut logged)?;
            }
        }
    }
    let report = seen.finish(logged, trail.as_deref()).await?;
    output::print(&if args.json { as_json(&report).to_string() } else { as_text(&report) })?;
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the verifier was shown. Heads come when all links have.
struct Seen<'a> {
    verifier: Verifier<'a>,
    heads: Vec<SignedHead>,
}

impl Seen<'_> {
    fn take(&mut self, found: Found) {
        match found {
            Found::Link(link) => self.verifier.link(&link),
            Found::Head(head) => self.heads.push(head),
            Found::Unreadable(what) => self.verifier.unreadable(what),
        }
    }

    async fn finish(mut self, mut logged: Vec<Link>, trail: Option<&Trail>) -> CommandResult<Report> {
        logged.sort_by(|a, b| (&a.chain, a.sequence).cmp(&(&b.chain, b.sequence)));
        for line in &logged {
            // A log is read from some hour on.
            self.verifier.begins_with(line);
            self.verifier.link(line);
        }
        if let Some(trail) = trail {
            for head in &self.heads {
                if let Some(holds) = trail.holds(head).await? {
                    self.verifier.head(head, holds);
                }
            }
        }
        Ok(self.verifier.finish())
    }
}

/// Lines of `audit export`, as they come, and log lines of the functions, which come in any order.
fn read_file(file: &Path, seen: &mut Seen<'_>, logged: &mut Vec<Link>) -> CommandResult {
    let named = |error: io::Error| CommandError(format!("cannot read {}: {error}", file.display()));
    let reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(named)?))
    };
    for (number, line) in reader.lines().enumerate() {
        let line = line.map_err(named)?;
        let at = || format!("{} line {}", file.display(), number.saturating_add(1));
        let value: Value = match serde_json::from_str(&line) {
            Ok(value) => value,
            Err(error) if line.starts_with(r#"{"link""#) || line.starts_with(r#"{"head""#) => {
                seen.take(Found::Unreadable(format!("{}: {error}", at())));
                continue;
            }
            // Lambda's own lines stand between ours in a log.
            Err(_) => continue,
        };
        let parsed = if let Some(link) = value.get("link") {
            serde_json::from_value(link.clone()).map(Found::Link)
        } else if let Some(head) = value.get("head") {
            serde_json::from_value::<SignedHead>(head.clone()).map(Found::Head)
        } else {
            // Any other line of a log is none of the trail's.
            logged.extend(Link::of_line(&value));
            continue;
        };
        seen.take(parsed.unwrap_or_else(|error| Found::Unreadable(format!("{}: {error}", at()))));
    }
    Ok(())
}

fn as_json(report: &Report) -> Value {
    json!({
        "findings": report.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "chains": report.chains,
        "links": report.links,
        "records": report.records,
        "withoutEnd": report.open,
        "unsigned": report.unsigned,
    })
}

fn as_text(report: &Report) -> String {
    let Report { findings, chains, links, records, open, unsigned } = report;
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let list = |of: &std::collections::BTreeSet<_>| {
        of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    if !open.is_empty() {
        lines.push(format!(
            "without an end, as a process leaves them that still runs or was killed: {}",
            list(open)
        ));
    }
    if !unsigned.is_empty() {
        lines.push(format!("not signed (yet), so that a cut end would not be missed: {}", list(unsigned)));
    }
    let verdict = if findings.is_empty() { "as it was written" } else { "NOT as it was written" };
    lines.push(format!("{verdict}: {records} records in {links} links of {chains} chains"));
    lines.join("\n")
}

/// Signs heads with a key that only the data directory gives.
pub struct LocalHeadSigner(hmac::Key);

impl LocalHeadSigner {
    /// With this key.
    pub fn new(key: &Key32) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }
}

#[async_trait]
impl HeadSigner for LocalHeadSigner {
    async fn sign(&self, framed: &[u8]) -> Result<Vec<u8>, String> {
        Ok(hmac::sign(&self.0, framed).as_ref().to_vec())
    }

    async fn holds(&self, framed: &[u8], signature: &[u8]) -> Result<bool, String> {
        Ok(hmac::verify(&self.0, framed, signature).is_ok())
    }
}
