//! A rule prepared for evaluation.

use super::machine::Holds;
use super::shape::WindowShape;
use crate::alerting::{
    AnomalyDirection, ChangeMode, Condition, NoDataPolicy, Quantity, Rule, RuleExpr, RuleKind, Term,
};
use crate::event::FieldPath;
use crate::filter::Filter;
use crate::id::derive_uuid;
use crate::query::Measure;
use crate::time::micros;

/// How a measured value becomes a verdict.
#[derive(Debug)]
pub(super) enum Judgement {
    Threshold(Condition),
    /// Compares with the value `lag` ticks earlier.
    Change {
        mode: ChangeMode,
        condition: Condition,
        lag: usize,
    },
    /// Compares with the values 1 to `periods` times `lag` ticks earlier.
    Anomaly {
        score: f64,
        direction: AnomalyDirection,
        lag: usize,
        periods: usize,
    },
}

/// A rule that measures a quantity in a window.
#[derive(Debug)]
pub(super) struct Measured {
    /// One term, or numerator and denominator.
    pub(super) terms: Vec<Term>,
    pub(super) shape: WindowShape,
    /// How often it is evaluated as time passes, whole steps.
    pub(super) tick: i64,
    pub(super) judgement: Judgement,
    /// An event can begin a breach at once.
    pub(super) wakes_on_event: bool,
    /// The value can only fall while no event comes, and only a rising value is a breach.
    pub(super) is_monotone: bool,
    /// A window that is not over yet understates the value, so only whole windows may be judged too low.
    pub(super) needs_whole_window: bool,
}

impl Measured {
    /// Returns how many earlier values are kept.
    pub(super) fn history_length(&self) -> Option<usize> {
        match self.judgement {
            Judgement::Threshold(_) => None,
            Judgement::Change { lag, .. } => Some(lag),
            Judgement::Anomaly { lag, periods, .. } => Some(lag * periods),
        }
    }

    /// Returns how old an instance is when all windows that it looks at are whole.
    pub(super) fn warm_after(&self) -> i64 {
        let earlier = match self.judgement {
            Judgement::Change { lag, .. } => i64::try_from(lag).unwrap_or(i64::MAX).saturating_mul(self.tick),
            Judgement::Threshold(_) | Judgement::Anomaly { .. } => 0,
        };
        self.shape.span().saturating_add(earlier)
    }

    /// Returns whether a new number alone shows that a percentile does not rise above the threshold.
    pub(super) fn is_harmless(&self, number: Option<f64>) -> bool {
        match (&self.judgement, self.terms.as_slice()) {
            (Judgement::Threshold(condition), [Term { measure: Measure::Percentile { .. }, .. }]) => {
                condition.op.is_upper()
                    && number.is_none_or(|number| !condition.op.holds(number, condition.value))
            }
            _ => false,
        }
    }
}

/// What a rule does, by kind.
#[derive(Debug)]
pub(super) enum Program {
    Measured(Measured),
    Absence { window: i64 },
    Sequence { first: Filter, then: Filter, within: i64, by: FieldPath, condition: Condition },
    Composite(RuleExpr),
}

/// A rule with everything that is derived from it.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    /// Equal for rules that measure and judge the same.
    pub(super) definition: u128,
    pub(super) program: Program,
    pub(super) holds: Holds,
    pub(super) cooldown: i64,
    pub(super) is_grouped: bool,
}

impl CompiledRule {
    pub(super) fn new(rule: &Rule, max_instances: u32) -> Self {
        let rule = Rule { max_groups: rule.max_groups.min(max_instances), ..rule.clone() };
        Self {
            definition: definition(&rule),
            program: program(&rule),
            holds: Holds::new(rule.hold_for, rule.keep_firing_for),
            cooldown: micros(rule.cooldown),
            is_grouped: !rule.group_by.is_empty(),
            rule,
        }
    }

    /// Returns whether the rule follows other rules instead of events.
    pub(super) const fn is_composite(&self) -> bool {
        matches!(self.program, Program::Composite(_))
    }

    /// Returns how much history a new rule starts with; `None` for kinds that start with nothing.
    pub(super) fn history_span(&self) -> Option<i64> {
        match &self.program {
            Program::Measured(measured) if measured.history_length().is_none() => Some(measured.shape.span()),
            Program::Absence { window } => Some(*window),
            _ => None,
        }
    }

    pub(super) fn no_data(&self) -> NoDataPolicy {
        self.rule.no_data
    }
}

/// Hashes what decides how a rule measures and judges: see [`Rule::evaluates_like`].
fn definition(rule: &Rule) -> u128 {
    let parts = (&rule.kind, &rule.filter, &rule.group_by, rule.max_groups, rule.no_data);
    let mut form = serde_json::to_vec(&parts).unwrap_or_default();
    form.extend_from_slice(&micros(rule.evaluation_interval).to_le_bytes());
    derive_uuid(b"pulsestream.rule.definition", &form)
}

fn program(rule: &Rule) -> Program {
    match &rule.kind {
        RuleKind::Threshold { quantity, window, condition } => {
            let shape = WindowShape::sliding(*window);
            let tick = shape.tick(rule.evaluation_interval);
            let accumulates = matches!(
                quantity,
                Quantity::Measure(
                    Measure::Count | Measure::Rate | Measure::CountDistinct(_) | Measure::Sum(_)
                )
            );
            let is_counting = accumulates && !matches!(quantity, Quantity::Measure(Measure::Sum(_)));
            let is_ordered = condition.op.is_upper() || condition.op.is_lower();
            // With an upper end, a rising value can end a breach too.
            let only_rises = condition.op.is_upper() && condition.upto.is_none();
            Program::Measured(Measured {
                terms: quantity.terms(),
                shape,
                tick,
                judgement: Judgement::Threshold(*condition),
                wakes_on_event: if accumulates { only_rises } else { is_ordered },
                is_monotone: is_counting && only_rises,
                needs_whole_window: accumulates && !only_rises,
            })
        }
        RuleKind::Change { quantity, window, offset, mode, condition } => {
            let shape = WindowShape::coarse(*window);
            let lag = micros(offset.unwrap_or(*window)) / shape.step;
            let judgement = Judgement::Change {
                mode: *mode,
                condition: *condition,
                lag: usize::try_from(lag).unwrap_or(1).max(1),
            };
            recording(quantity, shape, judgement)
        }
        RuleKind::Anomaly { quantity, window, season, periods, score, direction } => {
            let shape = WindowShape::tumbling(*window);
            let lag = micros(season.unwrap_or(*window)) / shape.step;
            let judgement = Judgement::Anomaly {
                score: *score,
                direction: *direction,
                lag: usize::try_from(lag).unwrap_or(1).max(1),
                periods: *periods as usize,
            };
            recording(quantity, shape, judgement)
        }
        RuleKind::Absence { window } => Program::Absence { window: micros(*window).max(1) },
        RuleKind::Sequence { first, then, within, by, condition } => Program::Sequence {
            first: first.clone(),
            then: then.clone(),
            within: micros(*within).max(1),
            by: by.clone(),
            condition: *condition,
        },
        RuleKind::Composite { expression } => Program::Composite(expression.clone()),
    }
}

/// A kind that remembers the value of every step, and is judged at the end of whole windows only.
fn recording(quantity: &Quantity, shape: WindowShape, judgement: Judgement) -> Program {
    Program::Measured(Measured {
        terms: quantity.terms(),
        shape,
        tick: shape.step,
        judgement,
        wakes_on_event: false,
        is_monotone: false,
        needs_whole_window: true,
    })
}
