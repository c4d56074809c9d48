//! Alerting: rules as data, the engine that evaluates them, and what becomes of their alerts.

mod alert;
mod change;
mod channel;
mod check;
mod checkpoint;
mod codec;
mod condition;
pub mod delivery;
pub mod engine;
mod evaluated;
mod explained;
mod incident;
mod kind;
mod listener;
mod notification;
mod plan;
mod processor;
mod replay;
mod route;
mod rule;
mod service;
mod silence;
mod text;
mod transition;

pub use alert::{
    Acknowledgement, Alert, AlertAction, ManualResolution, Suppression, TimelineEntry, TimelineKind,
};
pub use change::{Author, ConfigAction, ConfigChange, ConfigObject, Configured, FieldChange};
pub use channel::{Channel, ChannelConfig, ChannelDisabled, SecretText};
pub use check::{
    MAX_BASELINE_PERIODS, MAX_CHANGE_WINDOWS, MAX_CHANNELS, MAX_COMPOSITE_RULES, MAX_GROUPS, MAX_LABELS,
    MAX_NAME_BYTES, MAX_SEASON_WINDOWS, MAX_TEMPLATE_BYTES, MAX_WINDOW, MIN_WINDOW,
};
pub use condition::{Condition, Quantity, Term, ThresholdOp};
pub use evaluated::rules_evaluated_at;
pub use explained::RuleExplanation;
pub use incident::OPERATIONAL_SERVICE;
pub use kind::{AnomalyDirection, ChangeMode, RuleExpr, RuleKind};
pub use listener::AlertListener;
pub use notification::{AlertSummary, Delivery, DeliveryStatus, NotificationContent, NotificationKind};
pub use plan::{
    DirectPlanner, Plan, Planner, PlannerFactory, content, find_channel, news, plan_notifications,
};
pub use processor::{AlertingProcessor, PROCESSOR, ProcessorParts, ProcessorSettings};
pub use replay::{Backtest, backtest};
pub use route::{
    GroupTiming, Inhibition, MAX_ROUTE_DEPTH, MAX_ROUTES, MuteInterval, MuteSchedule, Route, Routing, Weekday,
};
pub use rule::{
    AlertSeverity, ChannelRef, DEFAULT_EVALUATION_INTERVAL, DEFAULT_MAX_GROUPS, Labels, NoDataPolicy, Rule,
};
pub use service::{AlertStats, AlertingService, Evaluated, EvaluatedGroup};
pub use silence::{MAX_MATCHER_BYTES, MAX_MATCHERS, MatchOp, Matcher, Silence};
pub use text::{MAX_EXPRESSION_BYTES, RuleExpression};
pub use transition::{AlertChange, AlertState, Fingerprint, Muted, Transition, TransitionReason, alert_id};
