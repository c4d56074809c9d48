//! The rules of one tenant.

use pulsestream_core::Result;
use pulsestream_core::alerting::{Backtest, ChannelRef, Rule, RuleExplanation, RuleExpression};
use pulsestream_core::id::{RuleId, TenantId};
use pulsestream_core::ports::alert_store::{RulePage, RuleQuery};
use pulsestream_core::time::{TimeRange, Timestamp};

use crate::PulseStream;

/// The rules of one tenant; cheap to clone.
#[derive(Debug, Clone)]
pub struct Rules {
    pulsestream: PulseStream,
    tenant: TenantId,
}

impl Rules {
    pub(crate) fn new(pulsestream: PulseStream, tenant: TenantId) -> Self {
        Self { pulsestream, tenant }
    }

    /// Makes a rule from its text form, which notifies the named channels at once, for example
    /// `p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' by source.endpoint for 2m`.
    ///
    /// # Errors
    /// `Invalid` with the place in the text, and those of
    /// [`AlertingService::create_rule`](pulsestream_core::alerting::AlertingService::create_rule).
    pub async fn create(&self, name: &str, expression: &str, channels: &[&str]) -> Result<Rule> {
        let expression: RuleExpression = expression.parse()?;
        let id = self.pulsestream.alerting().new_rule_id()?;
        let mut rule = Rule::new(id, name, expression.kind.clone());
        expression.apply_to(&mut rule);
        rule.channels = channels.iter().map(|name| ChannelRef::new(*name)).collect();
        rule.notify_at_once = true;
        self.put(rule).await
    }

    /// Makes a rule with everything it can say.
    ///
    /// # Errors
    /// Those of [`AlertingService::create_rule`](pulsestream_core::alerting::AlertingService::create_rule).
    pub async fn put(&self, rule: Rule) -> Result<Rule> {
        self.pulsestream.alerting().create_rule(self.tenant, rule).await
    }

    /// Changes a rule; `version` guards against a change by somebody else meanwhile.
    ///
    /// # Errors
    /// Those of [`AlertingService::update_rule`](pulsestream_core::alerting::AlertingService::update_rule).
    pub async fn update(&self, rule: Rule, version: Option<u64>) -> Result<Rule> {
        self.pulsestream.alerting().update_rule(self.tenant, rule, version).await
    }

    /// Returns a rule.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule.
    pub async fn get(&self, id: RuleId) -> Result<Rule> {
        self.pulsestream.alerting().rule(self.tenant, id).await
    }

    /// Lists rules.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, query: &RuleQuery) -> Result<RulePage> {
        self.pulsestream.alert_store().rules(self.tenant, query).await
    }

    /// Deletes a rule; its alerts stay.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule.
    pub async fn delete(&self, id: RuleId) -> Result<()> {
        self.pulsestream.alerting().delete_rule(self.tenant, id, None).await
    }

    /// Replays stored events through the engine: what would this rule have done?
    ///
    /// # Errors
    /// Those of the store; `TooLarge` for more events than a replay takes.
    pub async fn backtest(&self, rule: &Rule, range: TimeRange) -> Result<Backtest> {
        self.pulsestream.alerting().backtest(self.tenant, rule, range).await
    }

    /// Says why a rule fired at a time, or did not: value, threshold, window, what is still to come, and the silences that muted it.
    ///
    /// # Errors
    /// `NotFound` for an unknown rule, and those of [`Self::backtest`].
    pub async fn explain(&self, id: RuleId, at: Option<Timestamp>) -> Result<Vec<RuleExplanation>> {
        self.pulsestream.alerting().explain(self.tenant, id, at).await
    }
}
