//! Why an instance is in its state, in words.

use std::time::Duration;

use super::group::decode_labels;
use super::machine::FOREVER;
use super::program::{CompiledRule, Judgement, Program};
use super::series::Series;
use crate::alerting::{AlertState, alert_id};
use crate::id::TenantId;
use crate::ports::rule_engine::Explanation;
use crate::time::{TimeRange, Timestamp, format_duration};

/// Explains an instance; `now` is up to when time has passed, also for an instance that had no need to be judged since.
pub(super) fn explain_series(
    tenant: TenantId,
    compiled: &CompiledRule,
    series: &Series,
    now: i64,
) -> Explanation {
    let rule = &compiled.rule;
    let time = Timestamp::from_micros;
    let idle = match &compiled.program {
        Program::Measured(measured) if matches!(measured.judgement, Judgement::Threshold(_)) => {
            Some(measured).filter(|_| series.machine.is_idle())
        }
        _ => None,
    };
    let at = idle.map_or(series.evaluated_at, |_| series.evaluated_at.max(now));
    let value = match idle {
        Some(measured) => series.measured_at(measured, at),
        None => Some(series.value).filter(|value| !value.is_nan()),
    };
    let deadline = series.machine.deadline(compiled.holds);
    let changes_at = (deadline != FOREVER).then(|| time(deadline));
    let evaluated_at = time(at);
    let window = match &compiled.program {
        Program::Measured(measured) => {
            let end = measured.shape.bucket(at).saturating_add(1);
            let end = end.saturating_mul(measured.shape.step);
            let start = end.saturating_sub(measured.shape.span());
            Some(TimeRange::new(time(start), evaluated_at))
        }
        Program::Absence { window } => {
            Some(TimeRange::new(time(series.evaluated_at.saturating_sub(*window)), evaluated_at))
        }
        Program::Sequence { .. } | Program::Composite(_) => None,
    };
    let state = series.machine.state();
    let alert = series
        .machine
        .episode
        .as_ref()
        .map(|episode| alert_id(tenant, rule.id, series.fingerprint, time(episode.started_at)));
    let summary = rule.expression();
    let measured = match (value, &compiled.program) {
        (_, Program::Absence { window }) if series.machine.breached => {
            format!("nothing arrived for {}", in_words(*window))
        }
        (_, Program::Absence { .. }) => "events arrive".to_owned(),
        (Some(value), _) => format!("the value is {value}"),
        (None, _) => "there is no value yet".to_owned(),
    };
    let verdict = if series.machine.breached { "a breach" } else { "no breach" };
    let left = changes_at.map(|at| in_whole_milliseconds(at.since(evaluated_at.max(time(now)))));
    let consequence = match (state, left) {
        (None, _) if series.machine.held => {
            "a person resolved it, and it stays quiet until the breach was over once".to_owned()
        }
        (None, _) => "the instance is inactive".to_owned(),
        (Some(AlertState::Pending), Some(left)) => format!("pending, it fires in {left} if the breach lasts"),
        (Some(AlertState::Recovering), Some(left)) => {
            format!("recovering, it is resolved in {left} if the breach does not return")
        }
        (Some(state), _) => state.to_string(),
    };
    Explanation {
        rule: rule.id,
        fingerprint: series.fingerprint,
        group: decode_labels(&rule.group_by, &series.key),
        state,
        alert,
        evaluated_at: Some(evaluated_at),
        window,
        value,
        text: format!("{summary}: {measured}, which is {verdict}; {consequence}"),
        summary,
        breached: series.machine.breached,
        changes_at,
    }
}

/// Writes how long something takes still; what is less than a millisecond counts as one.
fn in_whole_milliseconds(left: Duration) -> String {
    let millis = left.as_micros().div_ceil(1_000);
    format_duration(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

fn in_words(span: i64) -> String {
    format_duration(Duration::from_micros(u64::try_from(span).unwrap_or(0)))
}
