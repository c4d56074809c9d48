//! Numbers for values that are the same in every part, so that groups of different parts meet without comparing texts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulsestream_core::event::{FieldPath, Value};

use crate::cache::CacheKey;
use crate::column::DictColumn;
use crate::error::FaultResult;
use crate::part::Part;

/// Bytes of interned values after which all are forgotten and numbered anew.
const MAX_BYTES: usize = 64 << 20;

/// The numbers of all values seen at the paths that were grouped by or counted.
#[derive(Debug, Default)]
pub(crate) struct Interners(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_path: HashMap<FieldPath, Arc<Interner>>,
    /// Tells apart the numbers before and after everything was forgotten.
    epoch: u64,
    bytes: usize,
}

/// The numbers of the values at one path; 0 is the missing value.
#[derive(Debug)]
pub(crate) struct Interner {
    epoch: u64,
    values: Mutex<Values>,
}

#[derive(Debug, Default)]
struct Values {
    numbers: HashMap<Value, u32>,
    values: Vec<Value>,
}

/// The number of each code of a part's dictionary.
type Numbers = Vec<u32>;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interners {
    /// Returns the interner of a path.
    pub(crate) fn of(&self, path: &FieldPath) -> Arc<Interner> {
        let mut state = held(&self.0);
        let mut bytes = 0;
        for interner in state.by_path.values() {
            bytes += interner.bytes();
        }
        state.bytes = bytes;
        if bytes > MAX_BYTES {
            state.by_path.clear();
            state.epoch += 1;
        }
        let epoch = state.epoch;
        let interner = state.by_path.entry(path.clone()).or_insert_with(|| Arc::new(Interner::new(epoch)));
        Arc::clone(interner)
    }
}

impl Interner {
    fn new(epoch: u64) -> Self {
        Self { epoch, values: Mutex::default() }
    }

    fn bytes(&self) -> usize {
        // A value, its copy as a key, and its place in the table.
        held(&self.values).values.len() * 96
    }

    /// Returns how many numbers there are, 0 included.
    pub(crate) fn numbers(&self) -> usize {
        held(&self.values).values.len() + 1
    }

    /// Returns the values of numbers.
    pub(crate) fn values_of(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<(Value, u32)> {
        let values = held(&self.values);
        let value = |number: u32| (number as usize).checked_sub(1).and_then(|index| values.values.get(index));
        numbers.into_iter().map(|number| (value(number).cloned().unwrap_or_default(), number)).collect()
    }

    /// Returns the numbers of the codes of a part's column.
    pub(crate) fn numbers_of(
        &self,
        part: &Part,
        path: &FieldPath,
        column: &DictColumn,
    ) -> FaultResult<Arc<Numbers>> {
        part.cache.get(part.rows.key(), CacheKey::Interned(path.clone(), self.epoch), || {
            let mut values = held(&self.values);
            let numbers: Numbers = (0..column.dictionary.codes())
                .map(|code| values.number(column.dictionary.value(code as u32).to_value()))
                .collect();
            let bytes = numbers.capacity() * 4;
            Ok((numbers, bytes))
        })
    }
}

impl Values {
    #[allow(clippy::cast_possible_truncation, reason = "memory ends before 2^32 values")]
    fn number(&mut self, value: Value) -> u32 {
        if matches!(value, Value::Missing) {
            return 0;
        }
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        self.values.push(value.clone());
        let number = self.values.len() as u32;
        self.numbers.insert(value, number);
        number
    }
}
