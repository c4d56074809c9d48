//! Events that are in the log and in no segment yet.

mod batch;
mod generation;
mod run;

pub(crate) use batch::{Batch, EncodedBatch};
pub(crate) use generation::Generation;
pub(crate) use run::Run;
