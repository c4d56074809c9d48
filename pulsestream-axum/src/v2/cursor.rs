//! Pages: cursors that only this deployment can make, and links to the next page.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pulsestream_core::id::TenantId;
use pulsestream_core::{Error, ErrorKind, FieldError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::failure::{Answer, Failure};

/// Bytes of the seal of a cursor.
const SEAL_BYTES: usize = 16;
/// Most rows of a page.
const MAX_LIMIT: usize = 1_000;
/// The longest cursor that is read; a place has at most a name of 200 characters, each of them escaped.
const MAX_CURSOR_BYTES: usize = 2_048;

/// What a page belongs to: a cursor of another tenant, another list or another question is refused.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    app: &'a App,
    tenant: TenantId,
    question: String,
}

impl<'a> Pages<'a> {
    /// Begins the pages of a list; `question` says everything that selects and orders its rows.
    pub(super) fn of(app: &'a App, tenant: TenantId, list: &str, question: &impl std::fmt::Debug) -> Self {
        Self { app, tenant, question: format!("{list} {question:?}") }
    }

    /// Writes the place at which the next page starts.
    pub(super) fn write(&self, place: &impl Serialize) -> Answer<String> {
        let place = serde_json::to_vec(place).map_err(|error| {
            Error::new(ErrorKind::Internal, "http.cursor", "the cursor cannot be written").with_source(error)
        })?;
        let mut bytes = self.seal(&place).to_vec();
        bytes.extend_from_slice(&place);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a place that [`Self::write`] wrote for the same list.
    pub(super) fn read<T: DeserializeOwned>(&self, cursor: Option<&str>) -> Answer<Option<T>> {
        let Some(cursor) = cursor else { return Ok(None) };
        let bytes = (cursor.len() <= MAX_CURSOR_BYTES).then(|| URL_SAFE_NO_PAD.decode(cursor).ok()).flatten();
        let bytes = bytes.filter(|bytes| bytes.len() > SEAL_BYTES).ok_or_else(refused)?;
        let (seal, place) = bytes.split_at(SEAL_BYTES);
        // Every byte is looked at, so that the time tells nothing about the seal.
        let differences =
            self.seal(place).iter().zip(seal).fold(0, |all, (left, right)| all | (left ^ right));
        if differences != 0 {
            return Err(refused());
        }
        serde_json::from_slice(place).map(Some).map_err(|_| refused())
    }

    fn seal(&self, place: &[u8]) -> [u8; SEAL_BYTES] {
        let parts: [&[u8]; 3] = [&self.tenant.to_bytes(), self.question.as_bytes(), place];
        let digest = self.app.ps.accounts().seal("api.v2.cursor", &parts);
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&digest.as_bytes()[..SEAL_BYTES]);
        seal
    }
}

/// Returns the rows of a page when it is not said.
pub(super) const fn default_limit() -> usize {
    100
}

/// Takes a page out of a short list that was read whole, in the order of the places of its rows: those after a place, and the place
/// of the last one when others follow.
pub(super) fn cut<T, P: Ord>(
    mut rows: Vec<T>,
    place: impl Fn(&T) -> P,
    after: Option<&P>,
    limit: usize,
) -> Answer<(Vec<T>, Option<P>)> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("must be 1 to {MAX_LIMIT}");
        return Err(Failure::invalid_query(vec![FieldError::new("/limit", "out_of_range", message)]));
    }
    rows.retain(|row| after.is_none_or(|after| place(row) > *after));
    let others_follow = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| others_follow).map(place);
    Ok((rows, last))
}

fn refused() -> Failure {
    let message = "this cursor is not one that this list gave for these parameters; start without one";
    Failure::bad_request("invalid_cursor", message)
}

/// Answers a page, with a `Link` to the next one (RFC 8288) relative to the request, so that it holds under any prefix.
pub(super) fn page(uri: &Uri, page: &impl Serialize, next: Option<&str>) -> Response {
    let mut response = axum::Json(page).into_response();
    if let Some(next) = next {
        let others = uri.query().unwrap_or_default().split('&');
        let mut query: Vec<_> =
            others.filter(|pair| !pair.is_empty() && !pair.starts_with("cursor=")).collect();
        let cursor = format!("cursor={next}");
        query.push(&cursor);
        if let Ok(link) = HeaderValue::from_str(&format!("<?{}>; rel=\"next\"", query.join("&"))) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}
