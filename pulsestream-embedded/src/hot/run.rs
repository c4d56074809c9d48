//! Fresh events in the order of segments, so that queries read both alike.

use std::ops::Range;
use std::sync::Arc;

use pulsestream_core::event::FieldPath;
use pulsestream_core::id::TenantId;

use super::Batch;
use crate::cache::{Cache, CacheKey};
use crate::column::{DictBuilder, DictColumn};
use crate::error::FaultResult;
use crate::field::{IntField, NumberField, TextField};
use crate::part::{Dynamic, Records, Rows, Texts};
use crate::record::Record;
use crate::segment::{IdHasher, IdIndex, TenantRange, next_part_key};

/// Some batches, their rows sorted by (tenant, time, id). Columns are built when a query asks for them.
#[derive(Debug)]
pub(crate) struct Run {
    key: u64,
    batches: Vec<Arc<Batch>>,
    /// Batch and row of each row.
    order: Vec<(u32, u32)>,
    tenants: Vec<TenantRange>,
}

/// Tenant, time and id of a row, then its batch and row.
type Place<'a> = (TenantId, i64, &'a [u8], (u32, u32));

impl Run {
    /// Sorts the rows of batches.
    #[allow(clippy::cast_possible_truncation, reason = "a run has fewer than 2^32 rows")]
    pub(crate) fn new(batches: Vec<Arc<Batch>>) -> Self {
        let mut places: Vec<Place<'_>> = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            for row in 0..batch.len() {
                let (time, id) = Record::decode_place(batch.record(row)).unwrap_or_default();
                places.push((batch.tenant, time, id, (index as u32, row as u32)));
            }
        }
        places.sort_unstable();
        let mut tenants: Vec<TenantRange> = Vec::new();
        for (row, (tenant, time, ..)) in places.iter().enumerate() {
            let row = row as u32;
            match tenants.last_mut() {
                Some(range) if range.tenant == *tenant => {
                    range.rows.end = row + 1;
                    range.max_time = *time;
                }
                _ => tenants.push(TenantRange {
                    tenant: *tenant,
                    rows: row..row + 1,
                    min_time: *time,
                    max_time: *time,
                }),
            }
        }
        let order = places.into_iter().map(|(.., place)| place).collect();
        Self { key: next_part_key(), batches, order, tenants }
    }

    /// Returns the tenants and their rows.
    pub(crate) fn tenants(&self) -> &[TenantRange] {
        &self.tenants
    }

    /// Returns the position of a row.
    pub(crate) fn position(&self, row: usize) -> u64 {
        let (batch, index) = self.order[row];
        self.batches[batch as usize].position + u64::from(index)
    }

    /// Returns the bytes of a row.
    pub(crate) fn bytes(&self, row: usize) -> &[u8] {
        let (batch, index) = self.order[row];
        self.batches[batch as usize].record(index as usize)
    }

    /// Returns a row. Batches are checked when they are read, so that decoding does not fail.
    pub(crate) fn record(&self, row: usize) -> Record<'_> {
        const NOTHING: Record<'_> = Record {
            id: &[],
            timestamp: 0,
            received_at: 0,
            severity: 0,
            texts: [None; crate::field::TEXT_FIELDS],
            numbers: [f64::NAN; crate::field::NUMBER_FIELDS],
        };
        Record::decode(self.bytes(row)).unwrap_or(NOTHING)
    }

    fn id(&self, row: usize) -> &[u8] {
        Record::decode_place(self.bytes(row)).unwrap_or_default().1
    }

    fn tenant(&self, tenant: TenantId) -> Option<&TenantRange> {
        let index = self.tenants.binary_search_by_key(&tenant, |range| range.tenant).ok()?;
        self.tenants.get(index)
    }
}

impl Rows for Run {
    fn key(&self) -> u64 {
        self.key
    }

    fn rows(&self) -> usize {
        self.order.len()
    }

    fn live_rows(&self, tenant: TenantId) -> Vec<Range<usize>> {
        self.tenant(tenant)
            .map(|range| range.rows.start as usize..range.rows.end as usize)
            .into_iter()
            .collect()
    }

    fn time_bounds(&self, tenant: TenantId) -> Option<(i64, i64)> {
        self.tenant(tenant).map(|range| (range.min_time, range.max_time))
    }

    #[allow(clippy::cast_possible_wrap, reason = "positions stay below 2^63")]
    fn load_ints(&self, field: IntField) -> FaultResult<Vec<i64>> {
        let value = |row: usize| match field {
            IntField::Timestamp => self.record(row).timestamp,
            IntField::ReceivedAt => self.record(row).received_at,
            IntField::Position => self.position(row) as i64,
            IntField::Severity => i64::from(self.record(row).severity),
        };
        Ok((0..self.rows()).map(value).collect())
    }

    fn load_numbers(&self, field: NumberField) -> FaultResult<Vec<f64>> {
        Ok((0..self.rows()).map(|row| self.record(row).numbers[field.index()]).collect())
    }

    fn keeps_dict(&self, field: TextField) -> bool {
        !field.is_wide()
    }

    fn find_id(
        &self,
        cache: &Cache,
        hasher: IdHasher,
        tenant: TenantId,
        id: &[u8],
        hash: u64,
    ) -> FaultResult<Option<u32>> {
        let Some(range) = self.tenant(tenant) else { return Ok(None) };
        let index = cache.get(self.key, CacheKey::IdIndex, || {
            let mut hashes = Vec::with_capacity(self.order.len());
            for range in &self.tenants {
                let rows = range.rows.start as usize..range.rows.end as usize;
                hashes.extend(rows.map(|row| hasher.hash(range.tenant, self.id(row))));
            }
            let index = IdIndex::new(&hashes);
            let bytes = index.heap_bytes();
            Ok((index, bytes))
        })?;
        let is_it = |row: &&u32| range.rows.contains(row) && self.id(**row as usize) == id;
        Ok(index.candidates(hash).iter().find(is_it).copied())
    }

    fn load_dict(&self, field: TextField) -> FaultResult<Option<DictColumn>> {
        let mut builder = DictBuilder::with_rows(self.rows());
        builder.push_texts((0..self.rows()).map(|row| self.record(row).texts[field.index()]));
        Ok(Some(builder.finish()))
    }

    fn load_dynamic(&self, _path: &FieldPath) -> FaultResult<Option<Dynamic>> {
        Ok(None)
    }

    fn texts<'a>(&'a self, field: TextField, _cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>> {
        Ok(Box::new(RunTexts { run: self, field: Some(field) }))
    }

    fn ids<'a>(&'a self, _cache: &'a Cache) -> FaultResult<Box<dyn Texts + 'a>> {
        Ok(Box::new(RunTexts { run: self, field: None }))
    }

    fn records<'a>(&'a self, _cache: &'a Cache) -> FaultResult<Box<dyn Records + 'a>> {
        Ok(Box::new(RunRecords(self)))
    }

    fn gather(
        &self,
        rows: &[usize],
        _cache: &Cache,
        visit: &mut dyn FnMut(usize, &Record<'_>) -> FaultResult<()>,
    ) -> FaultResult<()> {
        rows.iter().enumerate().try_for_each(|(place, row)| visit(place, &self.record(*row)))
    }
}

struct RunTexts<'a> {
    run: &'a Run,
    /// `None` reads ids.
    field: Option<TextField>,
}

impl Texts for RunTexts<'_> {
    fn get(&mut self, row: usize) -> FaultResult<Option<&[u8]>> {
        let record = self.run.record(row);
        Ok(self.field.map_or(Some(record.id), |field| record.texts[field.index()]))
    }
}

struct RunRecords<'a>(&'a Run);

impl Records for RunRecords<'_> {
    fn visit(
        &mut self,
        row: usize,
        visit: &mut dyn FnMut(&Record<'_>) -> FaultResult<()>,
    ) -> FaultResult<()> {
        visit(&self.0.record(row))
    }
}
