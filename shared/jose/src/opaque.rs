//! [`Introspector`]: tokens that only their issuer can read (RFC 7662). It is asked, and what it says is held to the authorizer's
//! profile by the code that reads the claims of JWTs (`docs/adr/0025`).
//!
//! An answer is good for [`ANSWER_LIFE`], many callers with one token cost one request, and tokens that somebody makes up cost an
//! endpoint no more than [`gate`] lets through. No answer at all is never a reason to refuse anybody for good.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_identity_core::authorizer::{Authorizer, IntrospectionSecret, KeyOwner, KeyPurpose};
use agent_identity_core::encoding::{length_prefixed, unbase64url};
use agent_identity_core::http::{HttpClient, HttpResponse};
use agent_identity_core::issuer::{TokenProfile, TokenRefused, VerifiedClaims, is_bearer_form};
use agent_identity_core::seal::{AuthorizerKeys, Context};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Clock, Id, Secret};
use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::watch;

use crate::jwt::refusal::refused;

mod answer;
mod gate;
mod known;
mod request;
#[cfg(test)]
mod tests;

use gate::{Gate, Gates};
#[cfg(test)]
pub(crate) use known::ANSWER_LIFE;
use known::Known;

/// How long an endpoint has for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an issuer said of a token, or why it said nothing.
type Said = Result<VerifiedClaims, TokenRefused>;

/// Of which token, and for which state of which authorizer, an answer is.
type Question = [u8; 32];

/// Asks issuers about tokens, and remembers for a moment what they said. Must be used within a tokio runtime.
pub(crate) struct Introspector {
    asker: Arc<Asker>,
}

/// An answer, or where it will be.
enum Answer {
    Known(Box<Said>),
    Coming(watch::Receiver<Option<Said>>),
}

impl Answer {
    fn no(reason: &str) -> Self {
        Self::Known(Box::new(Err(unavailable(reason))))
    }
}

struct Asker {
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    keys: Arc<dyn AuthorizerKeys>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    known: Known,
    /// What is being asked. Each sends what it heard, once.
    asked: HashMap<Question, watch::Receiver<Option<Said>>>,
    gates: Gates,
}

/// What is needed to ask, without whoever wants to know.
struct Asking {
    question: Question,
    token: Secret,
    workload: Id<Workload>,
    authorizer: Authorizer,
    profile: TokenProfile,
    gate: Arc<Gate>,
    /// Whether its issuer has said of the token before that it is active.
    is_known: bool,
}

impl Introspector {
    pub(crate) fn new(
        http: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
        keys: Arc<dyn AuthorizerKeys>,
    ) -> Self {
        Self { asker: Arc::new(Asker { http, clock, keys, memory: Mutex::default() }) }
    }

    /// `TokenVerifier::introspect`.
    pub(crate) async fn introspect(
        &self,
        token: &Secret,
        workload: Id<Workload>,
        authorizer: &Authorizer,
        profile: &TokenProfile,
    ) -> Said {
        if !is_bearer_form(token.expose()) {
            return Err(refused("structure", "it is neither a JWT nor a bearer token of at most 16 KiB"));
        }
        if profile.issuers.is_empty() {
            return Err(refused("issuer", "its issuer is not trusted here"));
        }
        let mut coming = match self.asker.answer(token, workload, authorizer, profile) {
            Answer::Known(said) => return *said,
            Answer::Coming(coming) => coming,
        };
        match coming.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(said)) => said.clone(),
            _ => Err(unavailable("the attempt to ask it was given up")),
        }
    }
}

impl Asker {
    /// What is known, what is waited for already, or what is asked for now: in a task of its own, since a caller that goes away must
    /// not undo what others wait for, and what has been counted.
    fn answer(
        self: &Arc<Self>,
        token: &Secret,
        workload: Id<Workload>,
        authorizer: &Authorizer,
        profile: &TokenProfile,
    ) -> Answer {
        let Some((introspection, secret)) = authorizer.introspects() else {
            return Answer::no("the authorizer has no secret to ask with");
        };
        let question = question(token, workload, authorizer, secret);
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut memory = self.memory();
        if let Some(said) = memory.known.answer(&question, profile, now, elapsed) {
            return Answer::Known(Box::new(said));
        }
        // An attempt whose channel is closed has ended without a word.
        if let Some(running) = memory.asked.get(&question).filter(|it| it.has_changed().is_ok()) {
            return Answer::Coming(running.clone());
        }
        let gate = memory.gates.of(introspection.endpoint.as_str(), elapsed);
        let is_known = memory.known.was_active(&question);
        if !is_known && !gate.lets_through(elapsed) {
            return Answer::no("too many tokens that nobody knows came within the last seconds");
        }
        let (said, coming) = watch::channel(None);
        memory.asked.insert(question, coming.clone());
        let asking = Asking {
            question,
            token: token.clone(),
            workload,
            authorizer: authorizer.clone(),
            profile: profile.clone(),
            gate,
            is_known,
        };
        let asker = Arc::clone(self);
        tokio::spawn(async move { said.send_replace(Some(asker.ask(asking).await)) });
        Answer::Coming(coming)
    }

    /// Asks, and remembers the answer.
    async fn ask(&self, asking: Asking) -> Said {
        let asked_at = self.clock.elapsed();
        let said = self.ask_issuer(&asking).await;
        match &said {
            // Genuine tokens may come in any number.
            Ok(_) if !asking.is_known => asking.gate.give_back(),
            Err(TokenRefused::IssuerUnavailable(reason)) => {
                let authorizer = asking.authorizer.name.as_str();
                let issuer = asking.authorizer.configuration.discovery_url.issuer();
                tracing::warn!(%issuer, authorizer, %reason, "an issuer cannot be asked about a token");
            }
            _ => {}
        }
        let mut memory = self.memory();
        memory.asked.remove(&asking.question);
        memory.known.keep(asking.question, &said, self.clock.now(), asked_at);
        said
    }

    async fn ask_issuer(&self, asking: &Asking) -> Said {
        let Some(_slot) = asking.gate.slot(asking.is_known).await else {
            return Err(unavailable("too many tokens are being asked about"));
        };
        let Some((introspection, sealed)) = asking.authorizer.introspects() else {
            return Err(unavailable("the authorizer has no secret to ask with"));
        };
        let owner = KeyOwner { workload: asking.workload, purpose: KeyPurpose::Introspection };
        let context = introspection.context(&asking.authorizer.name);
        let secret = self.open(owner, &context, sealed).await?;
        let request = request::introspection(introspection, &secret, &asking.token);
        let answer: HttpResponse = match tokio::time::timeout(PATIENCE, self.http.send(request)).await {
            Ok(answer) => answer.map_err(|error| unavailable(error.to_string()))?,
            Err(_elapsed) => return Err(unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
        };
        answer::read(&answer, &asking.profile, self.clock.now())
    }

    /// The secret of the client that asks.
    async fn open(
        &self,
        owner: KeyOwner,
        context: &Context,
        secret: &IntrospectionSecret,
    ) -> Result<Secret, TokenRefused> {
        let broken = || unavailable("the secret of its client does not open");
        let sealed = unbase64url(&secret.sealed).ok_or_else(broken)?;
        let opened = self.keys.open(owner, &secret.key, context, &sealed).await;
        let opened = opened.map_err(|error| unavailable(error.to_string()))?;
        std::str::from_utf8(&opened).map(Secret::new).map_err(|_not_text| broken())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(reason: impl Into<String>) -> TokenRefused {
    TokenRefused::IssuerUnavailable(reason.into())
}

/// The digest of the token, and of what the answer depends on besides. The sealed secret is another with each change of the authorizer,
/// also where one was deleted and another made under its name.
fn question(
    token: &Secret,
    workload: Id<Workload>,
    authorizer: &Authorizer,
    secret: &IntrospectionSecret,
) -> Question {
    let version = authorizer.version.to_be_bytes();
    let parts: [&[u8]; 5] = [
        workload.as_bytes(),
        authorizer.name.as_str().as_bytes(),
        &version,
        secret.sealed.as_bytes(),
        token.expose().as_bytes(),
    ];
    let mut question = Question::default();
    question.copy_from_slice(digest(&SHA256, &length_prefixed(parts)).as_ref());
    question
}
