//! Reading projected columns in order of time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pulsestream_core::Result;
use pulsestream_core::event::{FieldPath, Severity, ValueRef};
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::event_store::EventScan;
use pulsestream_core::query::{Column, ColumnBatch, Order, ScanQuery};
use pulsestream_core::text::Text;

use super::filter::FilterPlan;
use super::search::{Found, Search};
use crate::error::FaultResult;
use crate::field::{NumberField, TextField};
use crate::part::Part;
use crate::question::{Desk, Question, Size};

/// Starts a scan over parts.
///
/// # Errors
/// `Invalid` for a scan that makes no sense.
pub(crate) fn scan(
    parts: Vec<Part>,
    desk: &Arc<Desk>,
    size: Size,
    tenant: TenantId,
    query: &ScanQuery,
) -> FaultResult<PartScan> {
    query.validate()?;
    let plan = FilterPlan::new(query.filter.as_ref())?;
    let search = Search::new(parts, desk.take(), tenant, query.range, plan, Order::OldestFirst, None);
    let rest = Rest {
        search,
        columns: query.columns.clone(),
        batch_rows: query.batch_rows,
        found: Vec::new(),
        ready: None,
    };
    Ok(PartScan { desk: Arc::clone(desk), size, rest: Arc::new(Mutex::new(rest)) })
}

/// The rows that were there when the scan began. Each batch is a question with a time of its own; dropping its future loses nothing.
#[derive(Debug)]
pub(crate) struct PartScan {
    desk: Arc<Desk>,
    size: Size,
    rest: Arc<Mutex<Rest>>,
}

/// What is left of a scan.
#[derive(Debug)]
struct Rest {
    search: Search,
    columns: Vec<FieldPath>,
    batch_rows: usize,
    /// Rows of the batch at hand, kept when it is given up in the middle.
    found: Vec<Found>,
    /// A batch that nobody has taken yet.
    ready: Option<ColumnBatch>,
}

#[async_trait]
impl EventScan for PartScan {
    async fn next_batch(&mut self) -> Result<Option<ColumnBatch>> {
        let rest = Arc::clone(&self.rest);
        // A batch that was given up and has not noticed yet holds the lock until its next block.
        let read = move |question: &Arc<Question>| held(&rest).read_batch(question);
        self.desk.answer(self.size, read).await.map_err(|fault| fault.during("event_store.scan"))?;
        Ok(held(&self.rest).ready.take())
    }
}

fn held(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that a value in a batch takes beside its text.
const VALUE_BYTES: usize = 24;

impl Rest {
    fn read_batch(&mut self, question: &Arc<Question>) -> FaultResult<()> {
        if self.ready.is_some() {
            return Ok(());
        }
        self.search.resume(question)?;
        while self.found.len() < self.batch_rows {
            let Some(one) = self.search.next()? else { break };
            self.found.push(one);
        }
        if self.found.is_empty() {
            return Ok(());
        }
        let timestamps = self.found.iter().map(|one| one.time).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for path in &self.columns {
            question.next_block()?;
            question.hold(self.found.len() * VALUE_BYTES)?;
            columns.push(self.column(path, &self.found)?);
        }
        self.found.clear();
        self.ready = Some(ColumnBatch { timestamps, columns });
        Ok(())
    }

    fn column(&self, path: &FieldPath, found: &[Found]) -> FaultResult<Column> {
        match NumberField::of(path) {
            Some(NumberField::CacheHit) => {
                let mut flags = vec![None; found.len()];
                self.for_each(path, found, |index, value| {
                    if let ValueRef::Bool(flag) = value {
                        flags[index] = Some(*flag);
                    }
                })?;
                return Ok(Column::Bools(flags));
            }
            Some(_) => {
                let mut numbers = vec![None; found.len()];
                for (source, indexes) in by_source(found) {
                    let values = self.search.part(source).numbers(path)?;
                    for index in indexes {
                        numbers[index] = Some(values[found[index].row]).filter(|value| !value.is_nan());
                    }
                }
                return Ok(Column::Numbers(numbers));
            }
            None => {}
        }
        if !path.segments().is_empty() {
            let mut values = vec![Default::default(); found.len()];
            self.for_each(path, found, |index, value| values[index] = value.to_value())?;
            return Ok(Column::Values(values));
        }
        let mut dictionary = Vec::new();
        let mut known: HashMap<Text, u32> = HashMap::new();
        let mut codes = vec![None; found.len()];
        self.for_each(path, found, |index, value| {
            let text = match value {
                ValueRef::Text(text) => Text::from(text.as_ref()),
                ValueRef::Severity(severity) => Text::from(Severity::as_str(*severity)),
                _ => return,
            };
            let next = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
            let code = *known.entry(text.clone()).or_insert(next);
            if code == next {
                dictionary.push(text);
            }
            codes[index] = Some(code);
        })?;
        Ok(Column::Texts { dictionary, codes })
    }

    /// Hands the value at a path of each match to `visit`, with the index of the match.
    fn for_each(
        &self,
        path: &FieldPath,
        found: &[Found],
        mut visit: impl FnMut(usize, &ValueRef<'_>),
    ) -> FaultResult<()> {
        for (source, indexes) in by_source(found) {
            let part: &Part = self.search.part(source);
            let field = TextField::of(path);
            let by_row = *path == FieldPath::Id || field.is_some_and(|field| !part.rows.keeps_dict(field));
            if by_row {
                let mut texts = match field {
                    Some(field) => part.texts(field)?,
                    None => part.rows.ids(&part.cache)?,
                };
                for index in indexes {
                    let text = texts.get(found[index].row)?.and_then(|text| std::str::from_utf8(text).ok());
                    visit(index, &text.map_or(ValueRef::Missing, |text| ValueRef::Text(text.into())));
                }
            } else {
                let column = part.dict(path)?;
                for index in indexes {
                    visit(index, &column.value(found[index].row));
                }
            }
        }
        Ok(())
    }
}

/// Groups the indexes of matches by their part.
fn by_source(found: &[Found]) -> Vec<(usize, Vec<usize>)> {
    let mut grouped: Vec<(usize, Vec<usize>)> = Vec::new();
    for (index, Found { source, .. }) in found.iter().enumerate() {
        match grouped.iter_mut().find(|(known, _)| known == source) {
            Some((_, indexes)) => indexes.push(index),
            None => grouped.push((*source, vec![index])),
        }
    }
    grouped
}
