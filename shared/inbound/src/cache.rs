//! The rules of agents that were asked for of late.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::WorkloadName;
use agent_identity_core::authorizer::AgentRules;

/// How long a change of an authorizer may go unnoticed (D17).
pub const RULES_LIFE: Duration = Duration::from_secs(30);

/// The rules of at most so many agents are kept; that one has none is kept too.
pub const MAX_AGENTS: usize = 1000;

/// Rules by agent, each with the time of `Clock::elapsed` before it was read.
#[derive(Default)]
pub(crate) struct RulesCache(Mutex<HashMap<WorkloadName, (Duration, Arc<AgentRules>)>>);

impl RulesCache {
    pub(crate) fn get(&self, agent: &WorkloadName, now: Duration) -> Option<Arc<AgentRules>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, rules) = known.get(agent)?;
        is_live(*read_at, now).then(|| Arc::clone(rules))
    }

    pub(crate) fn put(&self, agent: &WorkloadName, rules: &Arc<AgentRules>, read_at: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_AGENTS && !known.contains_key(agent) {
            known.retain(|_, (earlier, _)| is_live(*earlier, read_at));
            // Names come from outside: a crowd of invented ones must not grow without end, nor push everybody out.
            if known.len() >= MAX_AGENTS {
                let oldest =
                    known.iter().min_by_key(|(_, (earlier, _))| *earlier).map(|(name, _)| name.clone());
                oldest.and_then(|name| known.remove(&name));
            }
        }
        known.insert(agent.clone(), (read_at, Arc::clone(rules)));
    }
}

fn is_live(read_at: Duration, now: Duration) -> bool {
    now.saturating_sub(read_at) < RULES_LIFE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> WorkloadName {
        WorkloadName::parse(&format!("agent-{number}")).unwrap()
    }

    #[test]
    fn an_entry_lives_thirty_seconds_from_before_it_was_read() {
        let cache = RulesCache::default();
        let at = Duration::from_secs;
        cache.put(&name(1), &Arc::default(), at(100));
        assert!(cache.get(&name(1), at(129)).is_some());
        assert!(cache.get(&name(1), at(130)).is_none());
        assert!(cache.get(&name(2), at(100)).is_none());
    }

    #[test]
    fn a_crowd_of_names_does_not_grow_it_and_costs_the_oldest_its_place() {
        let cache = RulesCache::default();
        for number in 0..MAX_AGENTS + 5 {
            cache.put(&name(number), &Arc::default(), Duration::from_millis(u64::try_from(number).unwrap()));
        }
        assert_eq!(cache.0.lock().unwrap().len(), MAX_AGENTS);
        let now = Duration::from_secs(2);
        assert!(cache.get(&name(4), now).is_none() && cache.get(&name(5), now).is_some());
        cache.put(&name(0), &Arc::default(), Duration::from_secs(60));
        assert_eq!(cache.0.lock().unwrap().len(), 1, "what has ended goes first");
    }
}
