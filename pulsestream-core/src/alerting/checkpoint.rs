//! The state of the alerting processor in a checkpoint: what the engine and the planner remember of each tenant.

use std::collections::{BTreeMap, HashMap};

use super::codec::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::TenantId;

/// Version of the state.
const FORMAT: u64 = 1;

/// Writes the states of tenants.
pub(super) fn encode(states: &BTreeMap<TenantId, &[u8]>) -> Vec<u8> {
    let mut out = Writer::default();
    out.unsigned(FORMAT);
    out.unsigned(states.len() as u64);
    for (tenant, state) in states {
        out.bytes(&tenant.to_bytes());
        out.sized(state);
    }
    out.into_bytes()
}

/// Reads the states of tenants.
pub(super) fn decode(state: &[u8]) -> Result<HashMap<TenantId, Vec<u8>>> {
    let mut input = Reader::new(state);
    let format = input.unsigned()?;
    if format != FORMAT {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "alerting.load",
            "another release wrote the checkpoint of alerting",
        )
        .with_context("format", format));
    }
    let count = input.length(17)?;
    (0..count).map(|_| Ok((TenantId::from_bytes(input.array()?), input.sized()?.to_vec()))).collect()
}

/// Writes what the engine and the planner remember of a tenant.
pub(super) fn join(engine: &[u8], planner: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.sized(engine);
    out.sized(planner);
    out.into_bytes()
}

/// Reads what the engine and the planner remember of a tenant.
pub(super) fn split(state: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut input = Reader::new(state);
    Ok((input.sized()?, input.sized()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_and_other_releases_are_refused() {
        let (one, two) = (join(b"engine", b"planner"), join(b"", b"p"));
        let states =
            BTreeMap::from([(TenantId::from_u128(1), one.as_slice()), (TenantId::from_u128(2), &two)]);
        let mut bytes = encode(&states);
        let read = decode(&bytes).unwrap();
        assert_eq!(
            split(&read[&TenantId::from_u128(1)]).unwrap(),
            (b"engine".as_slice(), b"planner".as_slice())
        );
        assert_eq!(split(&read[&TenantId::from_u128(2)]).unwrap(), (b"".as_slice(), b"p".as_slice()));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        bytes[0] = 9;
        assert_eq!(decode(&bytes).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
