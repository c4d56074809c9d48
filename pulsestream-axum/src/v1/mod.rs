//! `/api/v1`: the shapes that clients in the field speak. They do not change.

mod error;

use crate::operation::Routes;

pub(crate) use error::body as error_body;

/// Adds the operations of this version.
pub(crate) fn routes(_routes: &mut Routes, _accounts: bool) {}
