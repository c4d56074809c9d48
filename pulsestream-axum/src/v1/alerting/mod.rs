//! `/api/v1/alerting`: rules and alerts.

mod alerts;
mod channels;
mod condition;
pub(crate) mod evaluate;
mod rule_in;
mod rules;

use pulsestream_core::auth::Action;

use crate::access::Access;
use crate::operation::Routes;

pub(crate) use alerts::{AlertOut, message, title, triggered_at};
pub(crate) use rule_in::AlertSeverityName;

/// Adds the operations.
pub(crate) fn routes(routes: &mut Routes) {
    let (read, write) = (Access::May(Action::ReadAlerts), Access::May(Action::WriteRules));
    routes
        .post("/api/v1/alerting/rules", write, rules::create)
        .does("Makes a rule.")
        .takes::<rule_in::RuleIn>()
        .gives::<rules::RuleMade>(200)
        .fails(&[400, 409]);
    routes
        .get("/api/v1/alerting/rules", read, rules::list)
        .does("Lists rules, the oldest first.")
        .query::<rules::RulesQuery>()
        .gives::<rules::RuleList>(200);
    routes
        .get("/api/v1/alerting/rules/{rule_id}", read, rules::get)
        .does("Returns a rule.")
        .gives::<rules::RuleFound>(200);
    routes
        .put("/api/v1/alerting/rules/{rule_id}", write, rules::update)
        .does("Changes a rule; what is absent stays.")
        .takes::<rule_in::RuleChange>()
        .gives::<rules::RuleDone>(200)
        .fails(&[409]);
    routes
        .delete("/api/v1/alerting/rules/{rule_id}", write, rules::delete)
        .does("Deletes a rule; its alerts stay.")
        .gives::<rules::RuleDone>(200);
    routes
        .post("/api/v1/alerting/rules/{rule_id}/test", write, evaluate::test)
        .does("Evaluates a rule now.")
        .gives::<evaluate::Tested>(200);
    routes
        .post("/api/v1/alerting/evaluate", write, evaluate::all)
        .does("Evaluates all active rules now.")
        .gives::<evaluate::Evaluated>(200);
    routes
        .get("/api/v1/alerting/alerts", read, alerts::list)
        .does("Lists alerts, the latest first; without a filter the active ones.")
        .query::<alerts::AlertsQuery>()
        .gives::<alerts::AlertList>(200);
    routes
        .get("/api/v1/alerting/alerts/{alert_id}", read, alerts::get)
        .does("Returns an alert.")
        .gives::<alerts::AlertFound>(200);
    routes
        .post(
            "/api/v1/alerting/alerts/{alert_id}/resolve",
            Access::May(Action::HandleAlerts),
            alerts::resolve,
        )
        .does("Resolves an alert.")
        .takes::<alerts::ResolveIn>()
        .gives::<alerts::Resolved>(200)
        .fails(&[409]);
    routes
        .get("/api/v1/alerting/stats", read, alerts::stats)
        .does("Counts rules and alerts.")
        .gives::<alerts::StatsAnswer>(200);
}
