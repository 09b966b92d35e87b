//! D14 against a model of API Gateway's result cache: what is kept under a key of identity sources and used for other routes must be
//! what would have been decided anew. The configurations are those that `docs/operations.md` tells people to use.

use std::collections::HashMap;

use agent_identity_core::name::AuthorizerName;
use agent_identity_core::user::UserKey;
use agent_identity_core::{Timestamp, WorkloadName};
use agent_identity_inbound::{Outcome, VerifiedSession};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::answer::answer;
use crate::event::Request;
use crate::settings::Settings;

const AGENTS: [&str; 3] = ["first-agent", "second-agent", "first-agent-2"];
const TTL_SECONDS: u64 = 300;
const STAGE: &str = "arn:aws:execute-api:us-east-1:123456789012:api/prod";

/// What a REQUEST authorizer is attached to, and `Token`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Token,
    Rest,
    WebSocket,
    Http1,
    Http2Simple,
    Http2Policy,
}

/// How the agent is named, and with it what the administrator configures.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Naming {
    /// By the configuration; the cache is keyed by the token.
    Fixed,
    /// By the path; keyed by the token and the path.
    Path,
    /// By the path; keyed by the token alone: too narrowly, so policies must not grant too much.
    PathNarrow,
    /// The same with `AGENT_IDENTITY_ROUTES`: one policy is good for all routes of the agent.
    PathPattern,
    /// By the header; keyed by the token and the header.
    Header,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    kind: Kind,
    naming: Naming,
}

impl Setup {
    fn is_documented(self) -> bool {
        match (self.kind, self.naming) {
            (_, Naming::Fixed) => true,
            // A TOKEN authorizer sees nothing but the token, a WebSocket has no path.
            (Kind::Token, _) | (Kind::WebSocket, Naming::Path | Naming::PathNarrow | Naming::PathPattern) => {
                false
            }
            // Simple responses say nothing of routes: TTL 0, which is no cache.
            (Kind::Http2Simple, Naming::PathNarrow | Naming::PathPattern | Naming::Path) => false,
            _ => true,
        }
    }

    /// Whether every part that decides is in the key: then the cache changes nothing at all.
    const fn is_keyed_by_all(self) -> bool {
        !matches!(self.naming, Naming::PathNarrow | Naming::PathPattern)
    }

    fn settings(self) -> Settings {
        let get = |name: &str| {
            match (name, self.naming) {
                ("AGENT_IDENTITY_AGENT", Naming::Fixed) => Some(AGENTS[0]),
                ("AGENT_IDENTITY_ROUTES", Naming::PathPattern) => Some("*/agents/{agentId}/*"),
                ("AGENT_IDENTITY_IDENTITY_SOURCES", Naming::Header) => {
                    Some("method.request.header.Authorization,method.request.header.x-agent-id")
                }
                ("AGENT_IDENTITY_RESPONSE", _) if self.kind == Kind::Http2Policy => Some("policy"),
                _ => None,
            }
            .map(str::to_owned)
        };
        Settings::from_environment(get).unwrap()
    }
}

/// A user's token: what its claims say.
#[derive(Clone, Debug)]
struct Token {
    name: usize,
    is_genuine: bool,
    starts_at: u64,
    ends_at: u64,
    /// The agents whose rules it meets.
    meets: [bool; 3],
}

impl Token {
    /// What `AuthorizeRequest` would say: a function of the token, the agent and the time, and of nothing else.
    fn outcome(&self, agent: &str, now: u64) -> Outcome {
        let Some(place) = AGENTS.iter().position(|known| *known == agent) else {
            return Outcome::Unauthorized("no_authorizer");
        };
        match () {
            () if !self.is_genuine => Outcome::Unauthorized("signature"),
            () if now < self.starts_at => Outcome::Unauthorized("not_yet"),
            () if now >= self.ends_at => Outcome::Unauthorized("expired"),
            () if !self.meets[place] => Outcome::Forbidden("audience"),
            () => Outcome::Allowed(VerifiedSession {
                agent: WorkloadName::parse(agent).unwrap(),
                authorizer: AuthorizerName::parse("main").unwrap(),
                user_key: UserKey::from_digest([7; 32]),
                issuer: "https://idp.example".to_owned(),
                subject: format!("user-{}", self.name),
                scopes: Vec::new(),
                client_id: None,
                expires_at: Timestamp::from_seconds(i64::try_from(self.ends_at).unwrap()),
                workload_token: None,
            }),
        }
    }
}

#[derive(Clone, Debug)]
struct Step {
    wait_seconds: u64,
    token: usize,
    agent: usize,
    /// Of the routes of an agent.
    route: usize,
}

/// What reaches the backend.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Refused,
    Context(Value),
}

struct Gateway {
    setup: Setup,
    settings: Settings,
    tokens: Vec<Token>,
    now: u64,
    cache: HashMap<Vec<String>, (u64, Value)>,
}

impl Gateway {
    fn route(&self, step: &Step) -> String {
        let agent = AGENTS[step.agent];
        match (self.setup.kind, self.setup.naming) {
            (Kind::WebSocket, _) => "$connect".to_owned(),
            (_, Naming::Fixed | Naming::Header) => {
                ["GET/orders", "POST/orders/1", "GET/"][step.route].to_owned()
            }
            _ => {
                let rest =
                    ["GET/agents/AGENT/orders", "POST/agents/AGENT/orders/1", "GET/agents/AGENT/a/agents/b"];
                rest[step.route].replace("AGENT", agent)
            }
        }
    }

    fn event(&self, step: &Step) -> Value {
        let authorization = format!("Bearer token-{}", step.token);
        let arn = format!("{STAGE}/{}", self.route(step));
        if self.setup.kind == Kind::Token {
            return json!({"type": "TOKEN", "methodArn": arn, "authorizationToken": authorization});
        }
        let mut event = json!({"type": "REQUEST", "headers": {"authorization": authorization}});
        let arn_member = match self.setup.kind {
            Kind::Http2Simple | Kind::Http2Policy => {
                event["version"] = json!("2.0");
                "routeArn"
            }
            Kind::Http1 => {
                event["version"] = json!("1.0");
                "methodArn"
            }
            _ => "methodArn",
        };
        event[arn_member] = json!(arn);
        match self.setup.naming {
            Naming::Fixed => {}
            Naming::Header => event["headers"]["x-agent-id"] = json!(AGENTS[step.agent]),
            _ => event["pathParameters"] = json!({"agentId": AGENTS[step.agent]}),
        }
        event
    }

    fn key(&self, step: &Step) -> Vec<String> {
        let mut key = vec![format!("Bearer token-{}", step.token)];
        match self.setup.naming {
            Naming::Path => key.push(self.route(step)),
            Naming::Header => key.push(AGENTS[step.agent].to_owned()),
            _ => {}
        }
        key
    }

    /// The function, uncached. `None` is a failure, which API Gateway does not keep.
    fn function(&self, step: &Step) -> Option<Value> {
        let request = Request::parse(self.event(step), &self.settings).unwrap();
        let outcome = match &request.asked {
            Ok(asked) => self.tokens[step.token].outcome(&asked.agent, self.now),
            Err(reason) => Outcome::Unauthorized(reason),
        };
        let answer = answer(Some(request.form), outcome).ok()?;
        Some(serde_json::to_value(answer).unwrap())
    }

    /// What API Gateway does with an answer, cached or not, for the route that is asked for now.
    fn evaluate(&self, step: &Step, answer: Option<&Value>) -> Seen {
        let Some(answer) = answer else { return Seen::Refused };
        let is_allowed = match answer.get("isAuthorized") {
            Some(said) => said == &json!(true),
            None => {
                let statement = &answer["policyDocument"]["Statement"][0];
                let resource = statement["Resource"].as_str().unwrap();
                statement["Effect"] == "Allow" && matches(resource, &format!("{STAGE}/{}", self.route(step)))
            }
        };
        if is_allowed { Seen::Context(answer["context"].clone()) } else { Seen::Refused }
    }

    /// The answer to a request through the cache, when it was decided, and the answer without the cache.
    fn request(&mut self, step: &Step) -> (Seen, u64, Seen) {
        self.now += step.wait_seconds;
        let fresh = self.function(step);
        let key = self.key(step);
        let kept = self.cache.get(&key).filter(|(at, _)| self.now < at + TTL_SECONDS).cloned();
        let (at, used) = match kept {
            Some((at, kept)) => (at, Some(kept)),
            None => {
                if let Some(fresh) = &fresh {
                    self.cache.insert(key, (self.now, fresh.clone()));
                }
                (self.now, fresh.clone())
            }
        };
        (self.evaluate(step, used.as_ref()), at, self.evaluate(step, fresh.as_ref()))
    }

    /// What an API behind it lets pass that checks agent and end again, as it must.
    fn after_recheck(&self, step: &Step, seen: Seen) -> Seen {
        let Seen::Context(context) = &seen else { return seen };
        let is_of_agent = self.setup.naming == Naming::Fixed || context["agentId"] == AGENTS[step.agent];
        if is_of_agent && context["expiresAt"].as_u64().unwrap() > self.now { seen } else { Seen::Refused }
    }
}

/// IAM's wildcards.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
        }),
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    use Kind::*;
    use Naming::*;
    let kinds = prop::sample::select(vec![Token, Rest, WebSocket, Http1, Http2Simple, Http2Policy]);
    let namings = prop::sample::select(vec![Fixed, Path, PathNarrow, PathPattern, Header]);
    (kinds, namings)
        .prop_map(|(kind, naming)| Setup { kind, naming })
        .prop_filter("as documented", |setup| setup.is_documented())
}

fn tokens() -> impl Strategy<Value = Vec<Token>> {
    let token = (prop::bool::weighted(0.8), 0..400_u64, 100..2000_u64, any::<[bool; 3]>());
    prop::collection::vec(token, 3).prop_map(|tokens| {
        let make = |(name, (is_genuine, starts_at, life, meets))| Token {
            name,
            is_genuine,
            starts_at,
            ends_at: starts_at + life,
            meets,
        };
        tokens.into_iter().enumerate().map(make).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..200_u64, 0..3_usize, 0..3_usize, 0..3_usize);
    let step =
        step.prop_map(|(wait_seconds, token, agent, route)| Step { wait_seconds, token, agent, route });
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn d14_a_cached_decision_is_the_uncached_one_at_the_same_instant(setup in setups(), tokens in tokens(), steps in steps()) {
        let mut gateway =
            Gateway { setup, settings: setup.settings(), tokens, now: 0, cache: HashMap::new() };
        for step in &steps {
            let (cached, decided_at, fresh) = gateway.request(step);
            let token = &gateway.tokens[step.token];
            // A token that began or ended since is what no cache can know; of these, only an ended one lets anybody pass.
            let has_ended = decided_at < token.ends_at && token.ends_at <= gateway.now;
            let has_begun = decided_at < token.starts_at && token.starts_at <= gateway.now;
            if cached != Seen::Refused {
                prop_assert!(cached == fresh || has_ended, "grants: {cached:?} and not {fresh:?}, {step:?}");
            }
            if setup.is_keyed_by_all() && !has_ended && !has_begun {
                prop_assert_eq!(&cached, &fresh, "{:?}", step);
            }
            // With the backend's own checks nothing passes that would not pass uncached, ended tokens among it.
            let (cached, fresh) = (gateway.after_recheck(step, cached), gateway.after_recheck(step, fresh));
            prop_assert!(cached == Seen::Refused || cached == fresh, "after the checks: {cached:?} and not {fresh:?}, {step:?}");
        }
    }
}

/// What the model leaves out because `docs/operations.md` forbids it: this is why.
#[test]
fn d14_simple_responses_for_agents_in_the_path_need_a_ttl_of_zero() {
    let setup = Setup { kind: Kind::Http2Simple, naming: Naming::PathNarrow };
    let token = Token { name: 0, is_genuine: true, starts_at: 0, ends_at: 1000, meets: [true, false, false] };
    let mut gateway =
        Gateway { setup, settings: setup.settings(), tokens: vec![token], now: 1, cache: HashMap::new() };
    let step = |agent| Step { wait_seconds: 0, token: 0, agent, route: 0 };
    assert_ne!(gateway.request(&step(0)).0, Seen::Refused);
    let (cached, _, fresh) = gateway.request(&step(1));
    assert_eq!(
        (cached == Seen::Refused, fresh),
        (false, Seen::Refused),
        "the cache grants what nobody decided"
    );
    let (cached, _, _) = gateway.request(&step(1));
    assert_eq!(
        gateway.after_recheck(&step(1), cached),
        Seen::Refused,
        "and the backend's check of the agent stops it"
    );
}
