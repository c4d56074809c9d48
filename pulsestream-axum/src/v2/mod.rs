//! `/api/v2`: problem details, cursors, conditional requests.

mod problem;

use crate::operation::Routes;

pub(crate) use problem::{MEDIA_TYPE as PROBLEM_MEDIA_TYPE, body as error_body};

/// Adds the operations of this version.
pub(crate) fn routes(_routes: &mut Routes, _accounts: bool) {}
