//! Statements: their texts are this program's own, and their values are bound.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Postgres};

use crate::wire::Param;

/// The start of a statement that reads the rows of all tenants: with a table `scope`, which allows that when its row is read. Tables with
/// row-level security must be joined by `lateral` to something that depends on that row, such as [`first_param`], so that
/// they cannot be read before.
pub(crate) const FOR_ALL_TENANTS: &str =
    "with scope as materialized (select set_config('pulsestream.processor', 'on', true) as processor)";

/// Returns the first parameter, an array of this type, once the row of `scope` is read.
pub(crate) fn first_param(kind: &str) -> String {
    format!("case when scope.processor = 'on' then $1::{kind}[] end")
}

/// A statement with the text of this program.
pub(crate) fn query(sql: &'static str) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql)
}

/// A statement whose text was put together by this crate from fixed parts and an [`Identifier`](crate::Identifier).
pub(crate) fn bound(
    sql: Arc<str>,
    params: &[Param],
) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    params.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, param| query.bind(param.clone()))
}

/// As [`bound`], for a text that depends on the question and would push others out of the cache of prepared statements.
pub(crate) fn bound_once(
    sql: String,
    params: &[Param],
) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    bound(Arc::from(sql), params).persistent(false)
}
