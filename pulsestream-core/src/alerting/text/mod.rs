//! The text form of rules: `p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' by source.endpoint for 2m`.
//!
//! ```text
//! QUANTITY CONDITION over WINDOW
//! absent over WINDOW
//! change(QUANTITY) CONDITION over WINDOW [offset DURATION]         a number, or a percentage such as 50%
//! anomaly(QUANTITY) beyond SCORE over WINDOW [season DURATION] [periods NUMBER]      or >= SCORE, or <= -SCORE
//! sequence(FILTER; FILTER; FIELD) [CONDITION] within DURATION
//! rules(ID and not (ID or ID))
//!
//! QUANTITY   count, rate, error_rate, count_distinct(FIELD), sum(FIELD), avg(FIELD), min(FIELD), max(FIELD), pNN(FIELD),
//!            or a ratio such as count[FILTER] / count
//! CONDITION  > >= < <= = != NUMBER [upto NUMBER] [recover NUMBER]
//! ```
//! followed, in any order, by `where FILTER`, `by FIELD, FIELD`, `for DURATION`, `keep DURATION`, `every DURATION` and
//! `no_data no_data|ok|firing|keep_last`.

mod clauses;
mod display;
mod fault;
mod parse;

pub use parse::{MAX_EXPRESSION_BYTES, RuleExpression};
