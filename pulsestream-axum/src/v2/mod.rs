//! `/api/v2`: problem details, cursors, conditional requests.

mod accounts;
mod alerting;
mod cursor;
mod etag;
mod events;
mod problem;

use crate::operation::Routes;

pub(crate) use problem::{MEDIA_TYPE as PROBLEM_MEDIA_TYPE, body as error_body};

/// Adds the operations of this version.
pub(crate) fn routes(routes: &mut Routes, accounts: bool) {
    events::routes(routes);
    alerting::routes(routes);
    if accounts {
        accounts::routes(routes);
    }
    accounts::usage_routes(routes);
}
