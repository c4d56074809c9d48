//! The streaming rule engine: incremental, indexed, deterministic.
//!
//! # Time
//! Rules are evaluated on the time of the events. Three clocks meet:
//! - the time of an event, `min(timestamp, received_at)`: it decides in which step of a window the event counts;
//! - the arrival, the latest `received_at` seen, or the time given to `advance`: time-driven evaluations are made up to
//!   `arrival - settle`, so that stragglers within `settle` still count;
//! - the time of an instance: events of one instance that come in order are exact. One that comes later than its instance was
//!   evaluated counts in its step still, and when that changes the verdict the transition says `correction`.
//!
//! An event whose `received_at` is more than `allowed_lateness` after its `timestamp` (an import) counts in no window.
//!
//! # Windows
//! A window slides in steps: the largest number up to 30 (60 from an hour on) of equal steps of at least 100 ms. It never
//! reaches further back than the rule says. At the end of a step it is exact, and there the time-driven evaluations are made, every
//! `evaluation_interval` rounded up to whole steps. In between, an event can begin a breach at once, where a window that is not
//! over yet cannot be mistaken; it never ends one.
//!
//! # Composites
//! A composite rule follows the rules that it names in the order of time, up to `arrival - settle`: what fires for a moment because the
//! end of another rule was not decided yet alerts nobody.
//!
//! # Cost
//! An event costs one hash look-up for each combination of fields that rules demand, the filters of the rules found there, and
//! for each match an addition to one step and a sum over at most 60. Neither the length of a window nor the history matters.

mod evaluation;
mod explain;
mod group;
mod histogram;
mod history;
mod index;
mod machine;
mod named;
mod program;
mod series;
mod shape;
#[cfg(test)]
mod tests;
mod tracker;
mod waits;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MAX_GROUPS, Rule};
use crate::error::Result;
use crate::id::TenantId;
use crate::ports::rule_engine::{RuleEngine, RuleEvaluation};
use crate::time::duration_text;
use evaluation::StreamingEvaluation;

/// How the engine treats time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How long time-driven evaluations wait for stragglers.
    #[serde(with = "duration_text")]
    pub settle: Duration,
    /// How much later than it happened an event may be received and still alert people.
    #[serde(with = "duration_text")]
    pub allowed_lateness: Duration,
    /// Most instances of a rule, whatever its `max_groups` says; further groups share one.
    pub max_instances: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        let (settle, allowed_lateness) = (Duration::from_secs(5), Duration::from_secs(300));
        Self { settle, allowed_lateness, max_instances: MAX_GROUPS }
    }
}

/// The rule engine of this crate.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamingEngine {
    settings: EngineSettings,
}

impl StreamingEngine {
    /// Creates an engine.
    pub const fn new(settings: EngineSettings) -> Self {
        Self { settings }
    }
}

impl RuleEngine for StreamingEngine {
    fn validate(&self, rule: &Rule) -> Result<()> {
        rule.validate()
    }

    fn settle(&self) -> Duration {
        self.settings.settle
    }

    fn start(
        &self,
        tenant: TenantId,
        rules: &[Rule],
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn RuleEvaluation>> {
        let mut evaluation = StreamingEvaluation::new(tenant, &self.settings, rules);
        if let Some(snapshot) = snapshot {
            evaluation.restore(snapshot)?;
        }
        Ok(Box::new(evaluation))
    }
}
