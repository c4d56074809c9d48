//! Rules, alerts, silences, channels and deliveries.

mod alerts;
mod changes;
mod channels;
mod deliveries;
mod insight;
mod routing;
mod rule_in;
mod rules;
mod shapes;
mod silences;

use pulsestream_core::auth::Action;
use pulsestream_core::{Error, FieldError};
use serde::de::DeserializeOwned;

use crate::access::{Access, Caller};
use crate::operation::Routes;

const READ: Access = Access::May(Action::ReadAlerts);
const WRITE: Access = Access::May(Action::WriteRules);
const AUDIT: Access = Access::May(Action::ReadAudit);
const HANDLE: Access = Access::May(Action::HandleAlerts);

/// Adds the operations.
pub(super) fn routes(routes: &mut Routes) {
    rule_routes(routes);
    alert_routes(routes);
    silence_routes(routes);
    channel_routes(routes);
    delivery_routes(routes);
    insight_routes(routes);
    routing_routes(routes);
}

fn rule_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/rules", READ, rules::list)
        .does("Lists rules, in the order of their creation.")
        .query::<rules::RuleListQuery>()
        .gives::<rules::RulePageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/rules", WRITE, rules::create)
        .does("Makes a rule, from the text form or from JSON.")
        .takes::<rule_in::RuleIn>()
        .gives::<shapes::RuleView>(201)
        .repeatable();
    routes
        .post("/api/v2/rules/explain", READ, rules::explain)
        .does("Says what the text form of a rule means, and stores nothing.")
        .takes::<rules::ExplainIn>()
        .gives::<rules::ExplainOut>(200);
    routes
        .get("/api/v2/rules/{rule_id}", READ, rules::get)
        .does("Returns a rule, with its version as ETag.")
        .gives::<shapes::RuleView>(200);
    routes
        .put("/api/v2/rules/{rule_id}", WRITE, rules::replace)
        .does("Replaces a rule; If-Match guards against changes of others.")
        .takes::<rule_in::RuleIn>()
        .gives::<shapes::RuleView>(200)
        .fails(&[409, 412]);
    routes
        .delete("/api/v2/rules/{rule_id}", WRITE, rules::delete)
        .does("Deletes a rule; its alerts stay.")
        .gives_nothing(204)
        .fails(&[409, 412]);
    routes
        .post("/api/v2/rules/{rule_id}/enable", WRITE, rules::enable)
        .does("Switches a rule on.")
        .gives::<shapes::RuleView>(200)
        .fails(&[409, 412]);
    routes
        .post("/api/v2/rules/{rule_id}/disable", WRITE, rules::disable)
        .does("Switches a rule off.")
        .gives::<shapes::RuleView>(200)
        .fails(&[409, 412]);
}

fn alert_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/alerts", READ, alerts::list)
        .does("Lists alerts, those that started last first.")
        .query::<alerts::AlertListQuery>()
        .gives::<alerts::AlertPageOut>(200)
        .fails(&[400]);
    routes
        .get("/api/v2/alerts/{alert_id}", READ, alerts::get)
        .does("Returns an alert with its timeline.")
        .gives::<shapes::AlertWithTimeline>(200);
    routes
        .post("/api/v2/alerts/{alert_id}/acknowledge", HANDLE, alerts::acknowledge)
        .does("Takes care of an alert: repeated notifications stop.")
        .takes::<alerts::AcknowledgeIn>()
        .gives::<shapes::AlertView>(200)
        .fails(&[409]);
    routes
        .post("/api/v2/alerts/{alert_id}/unacknowledge", HANDLE, alerts::unacknowledge)
        .does("Takes an acknowledgement back.")
        .gives::<shapes::AlertView>(200)
        .fails(&[409]);
    routes
        .post("/api/v2/alerts/{alert_id}/resolve", HANDLE, alerts::resolve)
        .does("Ends an alert by hand.")
        .takes::<alerts::NoteIn>()
        .gives::<shapes::AlertView>(200)
        .fails(&[409]);
    routes
        .post("/api/v2/alerts/{alert_id}/comment", HANDLE, alerts::comment)
        .does("Adds a comment to the timeline of an alert.")
        .takes::<alerts::CommentIn>()
        .gives::<shapes::AlertView>(200)
        .fails(&[409]);
}

fn silence_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/silences", READ, silences::list)
        .does("Lists silences by their start.")
        .query::<silences::SilenceQuery>()
        .gives::<silences::SilencePageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/silences", HANDLE, silences::create)
        .does("Keeps the notifications of matching alerts back for a time.")
        .takes::<silences::SilenceIn>()
        .gives::<shapes::SilenceView>(201)
        .repeatable();
    routes
        .get("/api/v2/silences/{silence_id}", READ, silences::get)
        .does("Returns a silence, with its version as ETag.")
        .gives::<shapes::SilenceView>(200);
    routes
        .put("/api/v2/silences/{silence_id}", HANDLE, silences::replace)
        .does("Replaces a silence.")
        .takes::<silences::SilenceIn>()
        .gives::<shapes::SilenceView>(200)
        .fails(&[409, 412]);
    routes
        .delete("/api/v2/silences/{silence_id}", HANDLE, silences::delete)
        .does("Deletes a silence.")
        .gives_nothing(204)
        .fails(&[409, 412]);
}

fn channel_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/channels", READ, channels::list)
        .does("Lists channels by name; secrets are never shown.")
        .query::<channels::ChannelListQuery>()
        .gives::<channels::ChannelPageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/channels", WRITE, channels::create)
        .does("Makes a channel.")
        .takes::<channels::ChannelIn>()
        .gives::<shapes::ChannelView>(201)
        .repeatable();
    routes
        .get("/api/v2/channels/{channel_id}", READ, channels::get)
        .does("Returns a channel, with its version as ETag; secrets are never shown.")
        .gives::<shapes::ChannelView>(200);
    routes
        .put("/api/v2/channels/{channel_id}", WRITE, channels::replace)
        .does("Replaces a channel and switches it on again; `***` keeps a stored secret.")
        .takes::<channels::ChannelIn>()
        .gives::<shapes::ChannelView>(200)
        .fails(&[409, 412]);
    routes
        .delete("/api/v2/channels/{channel_id}", WRITE, channels::delete)
        .does("Deletes a channel.")
        .gives_nothing(204)
        .fails(&[409, 412]);
    routes
        .post("/api/v2/channels/{channel_id}/test", WRITE, channels::test)
        .does("Sends a test notification through a channel.")
        .gives::<channels::TestOut>(202);
}

fn delivery_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/deliveries", READ, deliveries::list)
        .does("Lists deliveries of notifications, newest first.")
        .query::<deliveries::DeliveryListQuery>()
        .gives::<deliveries::DeliveryPageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/deliveries/replay", WRITE, deliveries::replay_many)
        .does("Sends deliveries again: those named, those of a range, or all that were given up.")
        .takes::<deliveries::ReplayIn>()
        .gives::<deliveries::Replayed>(200);
    routes
        .get("/api/v2/deliveries/{delivery_id}", READ, deliveries::get)
        .does("Returns a delivery with the log of its attempts.")
        .gives::<shapes::DeliveryWithAttempts>(200);
    routes
        .post("/api/v2/deliveries/{delivery_id}/replay", WRITE, deliveries::replay)
        .does("Sends a delivery again.")
        .gives::<deliveries::Replayed>(200);
}

fn insight_routes(routes: &mut Routes) {
    routes
        .post("/api/v2/rules/backtest", READ, insight::backtest)
        .does("Says what a rule would have done with the stored events of a range, and stores nothing.")
        .takes::<insight::BacktestIn>()
        .gives::<insight::BacktestOut>(200);
    routes
        .post("/api/v2/rules/preview", READ, insight::preview_texts)
        .does("Says what the texts of a rule would say for an example alert, and stores nothing.")
        .takes::<rule_in::RuleIn>()
        .gives::<insight::PreviewOut>(200);
    routes
        .post("/api/v2/rules/{rule_id}/backtest", READ, insight::backtest_stored)
        .does("Says what a stored rule would have done with the stored events of a range.")
        .takes::<insight::BacktestRange>()
        .gives::<insight::BacktestOut>(200);
    routes
        .get("/api/v2/rules/{rule_id}/explain", READ, insight::explain)
        .does("Says why a rule fires at a time, or does not: value, threshold, window, what is still to come, silences.")
        .query::<insight::ExplainQuery>()
        .gives::<insight::ExplanationsOut>(200)
        .fails(&[400]);
}

fn routing_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/routing", READ, routing::get)
        .does("Returns routes, inhibitions and mute schedules, with their version as ETag.")
        .gives::<routing::RoutingView>(200);
    routes
        .put("/api/v2/routing", WRITE, routing::replace)
        .does("Replaces routes, inhibitions and mute schedules; If-Match guards against changes of others.")
        .takes::<routing::RoutingIn>()
        .gives::<routing::RoutingView>(200)
        .fails(&[409, 412]);
    routes
        .get("/api/v2/changes", AUDIT, changes::list)
        .does("Lists who changed rules, channels, silences and routing, the latest change first.")
        .query::<changes::ChangeListQuery>()
        .gives::<changes::ChangePageOut>(200)
        .fails(&[400]);
}

/// Returns who acts, as the timeline and the silences name them.
fn actor(caller: &Caller) -> pulsestream_core::text::Text {
    caller.principal.subject.to_string().into()
}

/// Reads a part of a body whose strict form is that of the core.
fn part<T: DeserializeOwned>(value: serde_json::Value, pointer: &str) -> Result<T, FieldError> {
    serde_json::from_value(value)
        .map_err(|error| FieldError::new(pointer, "invalid", error.to_string().replace('"', "`")))
}

/// Moves a refusal of the core to its place in the body.
fn refusal(error: &Error, pointer: &str) -> FieldError {
    let code = error.fields().first().map_or("invalid".into(), |field| field.code.clone());
    FieldError::new(pointer, code, error.message())
}
