//! Several segments as one, column by column.
//!
//! Only times and ids are compared, to find the order of the rows. Dictionaries are joined and codes translated, so that a value is
//! looked at once for each segment that has it and not once for each row, and one column at a time is in memory.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use pulsestream_core::event::{FieldPath, ValueRef};
use pulsestream_core::id::TenantId;

use super::format::{ColumnName, Encoding, TenantRange};
use super::ids::{IdHasher, Ids};
use super::output::Output;
use super::reader::Segment;
use super::shred::{Shredder, Values, is_worth_a_column};
use super::text_column::TextColumn;
use super::writer::SegmentOptions;
use crate::cache::Cache;
use crate::column::{DictBuilder, DictColumn};
use crate::error::{Fault, FaultResult};
use crate::field::{IntField, NumberField, TextField};
use crate::part::{Dynamic, Rows, Texts};
use crate::storage::Storage;

/// Between so many rows others may go first.
const PAUSE_ROWS: usize = 4_096;

/// Asked often while a merge is under way; an error ends it.
pub(super) type Pause<'a> = dyn FnMut() -> FaultResult<()> + 'a;

/// The rows of a merge in their order.
pub(crate) struct Merge<'a> {
    inputs: &'a [Segment],
    /// Input and row.
    order: Vec<(u32, u32)>,
    tenants: Vec<TenantRange>,
    times: Vec<i64>,
    ids: Vec<Arc<Ids>>,
}

impl<'a> Merge<'a> {
    /// Finds the order of all live rows; `None` if there are none.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, and those of `pause`.
    pub(crate) fn plan(inputs: &'a [Segment], pause: &mut Pause<'_>) -> FaultResult<Option<Self>> {
        let cache = Cache::new(0);
        let ids = inputs.iter().map(|input| input.load_ids(&cache)).collect::<FaultResult<Vec<_>>>()?;
        let mut cursors = Vec::with_capacity(inputs.len());
        for (index, input) in (0..).zip(inputs) {
            cursors.extend(Cursor::open(index, input, &ids[index as usize])?);
        }
        let mut merge =
            Self { inputs, order: Vec::new(), tenants: Vec::new(), times: Vec::new(), ids: Vec::new() };
        while let Some(least) = (0..cursors.len()).min_by(|left, right| cursors[*left].cmp(&cursors[*right]))
        {
            if merge.order.len().is_multiple_of(PAUSE_ROWS) {
                pause()?;
            }
            let cursor = &mut cursors[least];
            merge.push(cursor.tenant, cursor.time(), (cursor.input, cursor.row));
            if !cursor.advance() {
                cursors.swap_remove(least);
            }
        }
        merge.ids = ids;
        Ok((!merge.order.is_empty()).then_some(merge))
    }

    #[allow(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 rows")]
    fn push(&mut self, tenant: TenantId, time: i64, place: (u32, u32)) {
        let row = self.order.len() as u32;
        self.order.push(place);
        self.times.push(time);
        match self.tenants.last_mut() {
            Some(range) if range.tenant == tenant => {
                range.rows.end = row + 1;
                range.max_time = time;
            }
            _ => {
                self.tenants.push(TenantRange { tenant, rows: row..row + 1, min_time: time, max_time: time })
            }
        }
    }

    /// Writes the segment file and makes it durable; its name is not durable yet.
    ///
    /// # Errors
    /// `Corrupt`, `Io`, `SyncFailed`, and those of `pause`.
    #[allow(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 rows")]
    pub(crate) fn write(
        self,
        storage: &Arc<dyn Storage>,
        name: &str,
        options: SegmentOptions,
        hasher: IdHasher,
        pause: &mut Pause<'_>,
    ) -> FaultResult<()> {
        let mut out = Output::create(storage, name.to_owned(), options)?;
        for field in TextField::ALL {
            pause()?;
            self.write_text(field, &mut out, pause)?;
        }
        self.write_paths(&mut out, pause)?;
        for field in NumberField::ALL {
            pause()?;
            let columns = self.load(|input| input.load_numbers(field))?;
            out.add_numbers(field, &self.gather(&columns))?;
        }
        out.add_ints(IntField::Timestamp, &self.times)?;
        let mut max_received = i64::MIN;
        for field in IntField::ALL.into_iter().filter(|field| *field != IntField::Timestamp) {
            pause()?;
            let columns = self.load(|input| input.load_ints(field))?;
            let values = self.gather(&columns);
            if field == IntField::ReceivedAt {
                max_received = values.iter().copied().max().unwrap_or(i64::MIN);
            }
            out.add_ints(field, &values)?;
        }
        self.write_ids(hasher, &mut out)?;
        let start = self.inputs.iter().map(|input| input.footer().positions.start).min().unwrap_or(0);
        let end = self.inputs.iter().map(|input| input.footer().positions.end).max().unwrap_or(0);
        let rows = self.order.len() as u32;
        out.finish(rows, start..end, max_received, self.tenants).map(drop)
    }

    fn load<T>(&self, load: impl Fn(&Segment) -> FaultResult<T>) -> FaultResult<Vec<T>> {
        self.inputs.iter().map(load).collect()
    }

    fn gather<T: Copy>(&self, columns: &[Vec<T>]) -> Vec<T> {
        self.order.iter().map(|(input, row)| columns[*input as usize][*row as usize]).collect()
    }

    fn write_ids(&self, hasher: IdHasher, out: &mut Output) -> FaultResult<()> {
        let mut ids = Ids::new();
        let mut hashes = Vec::with_capacity(self.order.len());
        for range in &self.tenants {
            for (input, row) in &self.order[range.rows.start as usize..range.rows.end as usize] {
                self.ids[*input as usize].with(*row as usize, |id| {
                    ids.push(id);
                    hashes.push(hasher.hash(range.tenant, id));
                });
            }
        }
        out.add_ids(&ids, &hashes, &self.tenants)
    }

    fn write_text(&self, field: TextField, out: &mut Output, pause: &mut Pause<'_>) -> FaultResult<()> {
        let name = ColumnName::Text(field);
        let encodings: Vec<_> = self
            .inputs
            .iter()
            .filter_map(|input| input.footer().column(&name))
            .map(|column| column.encoding)
            .collect();
        if encodings.is_empty() {
            return Ok(());
        }
        // The texts of a wide field may together be too large for one dictionary.
        if !field.is_wide() && encodings.iter().all(|encoding| *encoding == Encoding::Dict) {
            let columns = self.load(|input| input.load_dict(field))?;
            let columns: Vec<DictColumn> = columns.into_iter().flatten().collect();
            if columns.len() == self.inputs.len() {
                return TextColumn::Dict(self.join(&columns)).finish(field, out);
            }
        }
        let cache = Cache::new(0);
        let mut texts =
            self.inputs.iter().map(|input| input.texts(field, &cache)).collect::<FaultResult<Vec<_>>>()?;
        let mut column = TextColumn::new(field);
        for (number, (input, row)) in self.order.iter().enumerate() {
            if number.is_multiple_of(PAUSE_ROWS) {
                pause()?;
            }
            column.push(field, texts[*input as usize].get(*row as usize)?, out)?;
        }
        column.finish(field, out)
    }

    /// Joins dictionaries, and translates the code of each row.
    fn join(&self, columns: &[DictColumn]) -> DictBuilder {
        const UNKNOWN: u32 = u32::MAX;
        let mut builder = DictBuilder::with_rows(self.order.len());
        let mut codes: Vec<Vec<u32>> =
            columns.iter().map(|column| vec![UNKNOWN; column.dictionary.codes()]).collect();
        for (input, row) in &self.order {
            let column = &columns[*input as usize];
            let old = column.codes.get(*row as usize);
            let new = &mut codes[*input as usize][old as usize];
            if *new == UNKNOWN {
                *new = builder.translate(&column.dictionary, old);
            }
            builder.push_code(*new);
        }
        builder
    }

    /// Writes the columns of paths. Where all inputs have the same ones they are joined; otherwise a path without a column in one input may
    /// be there all the same, so that the texts are read again.
    fn write_paths(&self, out: &mut Output, pause: &mut Pause<'_>) -> FaultResult<()> {
        fn paths(input: &Segment) -> HashSet<&FieldPath> {
            input.footer().columns.iter().filter_map(dynamic_path).collect()
        }
        let Some((first, others)) = self.inputs.split_first() else { return Ok(()) };
        let known = paths(first);
        if others.iter().any(|input| paths(input) != known) {
            return self.shred(out, pause);
        }
        for path in first.footer().columns.iter().filter_map(dynamic_path) {
            pause()?;
            let columns = self.load(|input| input.load_dynamic(path))?;
            let columns: Vec<Dynamic> = columns.into_iter().flatten().collect();
            if columns.len() != self.inputs.len() {
                return Err(Fault::corrupt(first.name(), first.bytes(), "a column of a path"));
            }
            if let Some(joined) = self.join_dynamic(columns) {
                out.add_dynamic(ColumnName::Dynamic(path.clone()), &joined)?;
            }
        }
        Ok(())
    }

    /// Returns the joined column, `None` if it is not worth it.
    fn join_dynamic(&self, columns: Vec<Dynamic>) -> Option<Dynamic> {
        let dicts = columns.iter().all(|column| matches!(column, Dynamic::Dict(_)));
        let values = if dicts {
            let columns: Vec<DictColumn> = columns
                .into_iter()
                .filter_map(|column| match column {
                    Dynamic::Dict(column) => Some(column),
                    Dynamic::Numbers(_) => None,
                })
                .collect();
            Values::Dict(self.join(&columns))
        } else {
            let mut values = Values::default();
            for (input, row) in &self.order {
                match &columns[*input as usize] {
                    Dynamic::Dict(column) => values.push(&column.value(*row as usize)),
                    Dynamic::Numbers(numbers) => {
                        let number = numbers[*row as usize];
                        values.push(&if number.is_nan() {
                            ValueRef::Missing
                        } else {
                            ValueRef::Number(number)
                        });
                    }
                }
            }
            values
        };
        is_worth_a_column(&values, values.present(), self.order.len()).then(|| values.finish())
    }

    fn shred(&self, out: &mut Output, pause: &mut Pause<'_>) -> FaultResult<()> {
        let cache = Cache::new(0);
        let open = |field: TextField| -> FaultResult<Vec<Box<dyn Texts + '_>>> {
            self.inputs.iter().map(|input| input.texts(field, &cache)).collect()
        };
        let mut fields = [open(TextField::Tags)?, open(TextField::Payload)?, open(TextField::Metadata)?];
        let mut shredder = Shredder::default();
        for (number, (input, row)) in self.order.iter().enumerate() {
            if number.is_multiple_of(PAUSE_ROWS) {
                pause()?;
            }
            let [tags, payload, metadata] = &mut fields;
            let (input, row) = (*input as usize, *row as usize);
            shredder.push(tags[input].get(row)?, payload[input].get(row)?, metadata[input].get(row)?);
        }
        for (path, values) in shredder.finish() {
            out.add_dynamic(ColumnName::Dynamic(path), &values)?;
        }
        Ok(())
    }
}

fn dynamic_path(column: &super::format::ColumnMeta) -> Option<&FieldPath> {
    match &column.name {
        ColumnName::Dynamic(path) => Some(path),
        _ => None,
    }
}

/// One input and its next row.
struct Cursor<'a> {
    input: u32,
    segment: &'a Segment,
    times: Vec<i64>,
    ids: &'a Ids,
    range: usize,
    tenant: TenantId,
    row: u32,
}

impl<'a> Cursor<'a> {
    /// Starts at the first live row, `None` if there is none.
    fn open(input: u32, segment: &'a Segment, ids: &'a Ids) -> FaultResult<Option<Self>> {
        let Some(first) = segment.footer().tenants.first() else { return Ok(None) };
        let times = segment.load_ints(IntField::Timestamp)?;
        let mut cursor = Self { input, segment, times, ids, range: 0, tenant: first.tenant, row: 0 };
        Ok(cursor.settle().then_some(cursor))
    }

    fn time(&self) -> i64 {
        self.times[self.row as usize]
    }

    /// Compares the next rows by tenant, time and id.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tenant, self.time()).cmp(&(other.tenant, other.time())).then_with(|| {
            self.ids.with(self.row as usize, |id| other.ids.with(other.row as usize, |other| id.cmp(other)))
        })
    }

    fn advance(&mut self) -> bool {
        self.row += 1;
        self.settle()
    }

    /// Goes to the next live row, this one included.
    fn settle(&mut self) -> bool {
        let footer = self.segment.footer();
        while self.row < footer.rows && !self.segment.is_live(self.row) {
            self.row += 1;
        }
        if self.row >= footer.rows {
            return false;
        }
        while footer.tenants.get(self.range).is_some_and(|range| range.rows.end <= self.row) {
            self.range += 1;
        }
        let Some(range) = footer.tenants.get(self.range) else { return false };
        self.tenant = range.tenant;
        true
    }
}
