//! Candidates of a search for text, from the text index.

use pulsestream_core::filter::Filter;
use pulsestream_core::id::TenantId;
use pulsestream_core::time::TimeRange;
use sqlx::PgConnection;

use super::read::Selection;
use crate::database::bound_once;
use crate::error::Fault;
use crate::sql::text_patterns;
use crate::wire::{ArrayParam, Columns, Param, TEXT, TIMESTAMPTZ};

/// With more candidates the text is common: then a page is found sooner in the order of time, and the rest costs as much either way.
const MAX_CANDIDATES: usize = 2_000;

/// Where the tables are, and how their text is found.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) events: String,
    /// The function that returns candidates, when there is a text index.
    text_candidates: Option<String>,
}

impl Tables {
    pub(super) fn new(schema: &str, has_text_index: bool) -> Self {
        let function = has_text_index.then(|| format!("{schema}.text_candidates"));
        Self { events: format!("{schema}.events"), text_candidates: function }
    }

    /// Selects events, and names those whose text may match when the filter asks for text that is rare.
    pub(super) async fn select(
        &self,
        connection: &mut PgConnection,
        tenant: TenantId,
        range: TimeRange,
        filter: Option<&Filter>,
    ) -> Result<Selection, Fault> {
        let mut selection = Selection::new(tenant, range, filter);
        let Some(function) = &self.text_candidates else { return Ok(selection) };
        let Some(patterns) = filter.and_then(text_patterns) else { return Ok(selection) };
        let sql = format!("select at_time, event_id from {function}($1, $2, $3, $4)");
        let params = [
            Param::texts(patterns.iter().map(String::as_str)),
            Param::timestamp(range.start),
            Param::timestamp(range.end),
            Param::int4(i32::try_from(MAX_CANDIDATES).unwrap_or(i32::MAX).saturating_add(1)),
        ];
        let rows = bound_once(sql, &params).fetch_all(connection).await?;
        if rows.len() > MAX_CANDIDATES {
            return Ok(selection);
        }
        let (mut times, mut ids) = (ArrayParam::new(TIMESTAMPTZ), ArrayParam::new(TEXT));
        for row in &rows {
            let mut columns = Columns::new(row);
            times.timestamp(columns.timestamp()?);
            ids.text(Some(columns.str()?));
        }
        selection.narrow_to(times.into(), ids.into());
        Ok(selection)
    }
}
