//! The program: its environment, and its end.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitCode;

use agent_identity_core::Secret;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::bundle::VARIABLES;
use crate::data_dir::DefaultKey;
use crate::{CommandError, CommandResult, output};

/// What the program is told.
pub struct Environment<'a> {
    /// The URL of the proxy, with what opens it.
    pub proxy: Secret,
    /// The certificates that it trusts.
    pub bundle: &'a Path,
    /// What is opened.
    pub hosts: &'a [String],
    /// The key that it must not have.
    pub key: &'a DefaultKey,
    /// The server, which it needs not know.
    pub url: &'a str,
}

/// This process holds an access key: programs of the same user are not to read it from its memory or environment.
pub fn keep_others_out() {
    #[cfg(target_os = "linux")]
    let _unsupported = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Whether this user can look into the process of this machine that listens at the URL. True where nobody can say.
pub fn may_look_into(url: &str) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    let parsed = Url::parse(url).ok();
    let port = parsed.and_then(|url| url.port_or_known_default());
    let listed = |file: &str| {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        let owners = table.lines().skip(1).filter_map(|line| {
            // Fields 1, 3 and 7 of proc_net_tcp: the local address, the state (0A: listening), the user.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, at) = fields.get(1)?.rsplit_once(':')?;
            let listens = *fields.get(3)? == "0A" && u16::from_str_radix(at, 16).ok() == port;
            listens.then(|| fields.get(7)?.parse::<u32>().ok())?
        });
        owners.collect::<Vec<_>>()
    };
    let owners: Vec<u32> = ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|file| listed(file)).collect();
    uid == 0 || owners.is_empty() || owners.contains(&uid)
}

/// Variables of ours that would tell the program more than it needs.
fn is_ours(name: &str) -> bool {
    name.starts_with("AGENT_IDENTITY_")
        || [
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE",
            "BEDROCK_AGENTCORE_CP_ENDPOINT",
            "BEDROCK_AGENTCORE_DP_ENDPOINT",
        ]
        .iter()
        .any(|ours| name.starts_with(ours))
}

impl Environment<'_> {
    /// Loopback goes without a proxy, as it does everywhere, but for what is opened there.
    fn no_proxy(&self) -> String {
        let loopback = ["localhost", "127.0.0.1", "::1"];
        let free: Vec<&str> =
            loopback.into_iter().filter(|name| !self.hosts.iter().any(|host| host == name)).collect();
        free.join(",")
    }

    fn apply(&self, command: &mut Command) {
        let url = self.url.trim_end_matches('/');
        let by_name = url.replacen("//127.0.0.1:", "//localhost:", 1);
        let tells = |value: &str| {
            [self.key.secret_access_key.expose(), &self.key.access_key_id, url, &by_name]
                .iter()
                .any(|ours| value.contains(ours))
        };
        for (name, value) in std::env::vars_os() {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            if is_ours(&name) || tells(&value) {
                command.env_remove(&*name);
            }
        }
        for name in ["HTTPS_PROXY", "https_proxy"] {
            command.env(name, self.proxy.expose());
        }
        // Another proxy for all would be taken by some in place of this one.
        for name in ["ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        for name in ["NO_PROXY", "no_proxy"] {
            command.env(name, self.no_proxy());
        }
        command.env("NODE_USE_ENV_PROXY", "1");
        for name in VARIABLES {
            command.env(name, self.bundle);
        }
    }
}

/// A signal, but one that this process was started to ignore: the program is to ignore it too, and what is caught here it would not.
fn caught(kind: SignalKind) -> Option<tokio::signal::unix::Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit =
        kind.as_raw_value().checked_sub(1).and_then(|place| 1_u64.checked_shl(u32::try_from(place).ok()?));
    if bit.is_some_and(|bit| mask & bit != 0) {
        return None;
    }
    signal(kind).ok()
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Runs the program to its end, with which this command ends too.
///
/// # Errors
/// Those of the system. A program that cannot be started is an exit code: 127 where there is none, 126 where it cannot be run.
pub async fn run(command: &[OsString], environment: &Environment<'_>) -> CommandResult<ExitCode> {
    let [program, arguments @ ..] = command else {
        return Err(CommandError("there is no COMMAND".to_owned()));
    };
    if ["HTTPS_PROXY", "https_proxy"].iter().any(|name| std::env::var_os(name).is_some()) {
        output::complain(
            "agent-identity: warning: HTTPS_PROXY was set, and is not used: requests to other hosts go there directly",
        );
    }
    // Ctrl-C and Ctrl-\ reach the program by themselves, and it decides; who stops this process by another signal means the program.
    let [mut interrupt, mut quit, mut terminate, mut hangup] =
        [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()]
            .map(caught);
    let mut prepared = Command::new(program);
    prepared.args(arguments);
    environment.apply(&mut prepared);
    let mut child = match prepared.spawn() {
        Ok(child) => child,
        Err(error) => {
            output::complain(&format!("error: cannot run {}: {error}", program.to_string_lossy()));
            let absent = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if absent { 127 } else { 126 }));
        }
    };
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pass_on = |signal: Signal| {
        if let Some(pid) = pid {
            let _ended_already = kill_process(pid, signal);
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = next(&mut terminate) => pass_on(Signal::TERM),
            () = next(&mut hangup) => pass_on(Signal::HUP),
            () = next(&mut interrupt) => {}
            () = next(&mut quit) => {}
        }
    };
    // As a shell says it.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
