//! The table of operations: what is served, who may call it, what it takes and what it answers.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::access::{self, Access, Guard};
use crate::app::App;
use crate::idempotency::Repeatable;
use crate::schema;

/// Adds the schema of a type to the components of a document and returns a reference to it.
pub(crate) type SchemaOf = fn(&mut Map<String, Value>) -> Value;

/// What one operation is: its place, who may call it, and its documentation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The HTTP method.
    pub method: Method,
    /// The path below the place where the router is nested, with parameters as `{name}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does, in one sentence.
    pub summary: &'static str,
    pub(crate) query: Option<SchemaOf>,
    pub(crate) body: Option<SchemaOf>,
    pub(crate) answers: Vec<AnswerDoc>,
    pub(crate) failures: Vec<u16>,
    /// Whether it takes an `Idempotency-Key`.
    pub(crate) takes_key: bool,
    /// Whether the key is looked after before its handler is called; else the handler does that.
    is_repeatable: bool,
}

/// One way in which an operation succeeds.
#[derive(Debug, Clone)]
pub(crate) struct AnswerDoc {
    pub(crate) status: u16,
    /// Empty for an answer without a body.
    pub(crate) media_type: &'static str,
    pub(crate) schema: Option<SchemaOf>,
}

impl Operation {
    /// Says what it does, in one sentence.
    pub(crate) fn does(&mut self, summary: &'static str) -> &mut Self {
        self.summary = summary;
        self
    }

    /// Says what the query holds.
    pub(crate) fn query<T: ToSchema>(&mut self) -> &mut Self {
        self.query = Some(schema::components::<T>);
        self
    }

    /// Says what the JSON body holds.
    pub(crate) fn takes<T: ToSchema>(&mut self) -> &mut Self {
        self.body = Some(schema::components::<T>);
        self
    }

    /// Says what a JSON answer holds.
    pub(crate) fn gives<T: ToSchema>(&mut self, status: u16) -> &mut Self {
        let schema = Some(schema::components::<T> as SchemaOf);
        self.answers.push(AnswerDoc { status, media_type: "application/json", schema });
        self
    }

    /// Says that an answer is of another type than JSON.
    pub(crate) fn gives_media(&mut self, status: u16, media_type: &'static str) -> &mut Self {
        self.answers.push(AnswerDoc { status, media_type, schema: None });
        self
    }

    /// Says that a success has no body.
    pub(crate) fn gives_nothing(&mut self, status: u16) -> &mut Self {
        self.gives_media(status, "")
    }

    /// Says that its handler looks after an `Idempotency-Key`.
    pub(crate) fn takes_key(&mut self) -> &mut Self {
        self.takes_key = true;
        self.fails(&[409])
    }

    /// Lets it happen once under an `Idempotency-Key`.
    pub(crate) fn repeatable(&mut self) -> &mut Self {
        self.is_repeatable = true;
        self.takes_key()
    }

    /// Names statuses of failures beyond those that every operation has.
    pub(crate) fn fails(&mut self, statuses: &[u16]) -> &mut Self {
        self.failures.extend_from_slice(statuses);
        self
    }
}

/// A row of the table, with what serves it.
struct Route {
    operation: Operation,
    handler: MethodRouter<App>,
}

/// Collects the rows.
#[derive(Default)]
pub(crate) struct Routes(Vec<Route>);

impl Routes {
    pub(crate) fn get<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Operation
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(Method::GET, MethodFilter::GET, path, access, handler)
    }

    pub(crate) fn post<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Operation
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(Method::POST, MethodFilter::POST, path, access, handler)
    }

    pub(crate) fn put<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Operation
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(Method::PUT, MethodFilter::PUT, path, access, handler)
    }

    pub(crate) fn delete<H, T>(&mut self, path: &'static str, access: Access, handler: H) -> &mut Operation
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(Method::DELETE, MethodFilter::DELETE, path, access, handler)
    }

    fn add<H, T>(
        &mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let operation = Operation {
            method,
            path,
            access,
            summary: "",
            query: None,
            body: None,
            answers: Vec::new(),
            failures: Vec::new(),
            takes_key: false,
            is_repeatable: false,
        };
        let at = self.0.len();
        self.0.push(Route { operation, handler: on(filter, handler) });
        &mut self.0[at].operation
    }

    /// Returns the rows without what serves them.
    pub(crate) fn operations(self) -> Vec<Operation> {
        self.0.into_iter().map(|route| route.operation).collect()
    }

    /// Puts the guard before each row and returns the router.
    pub(crate) fn into_router(self, app: &App) -> Router<App> {
        let mut router = Router::new();
        for (index, Route { operation, mut handler }) in self.0.into_iter().enumerate() {
            if operation.is_repeatable {
                let at = Repeatable { app: app.clone(), operation: operation.path };
                handler = handler
                    .route_layer(axum::middleware::from_fn_with_state(at, crate::idempotency::repeatable));
            }
            let guard = Guard { app: app.clone(), access: operation.access, index };
            let guarded = handler.route_layer(axum::middleware::from_fn_with_state(guard, access::guard));
            router = router.route(operation.path, guarded);
        }
        router
    }
}

/// Returns every operation that a router with local accounts serves.
pub fn operations() -> Vec<Operation> {
    table(true).operations()
}

/// The whole table; without accounts for a host that has identities of its own.
pub(crate) fn table(accounts: bool) -> Routes {
    let mut routes = Routes::default();
    crate::service::routes(&mut routes);
    crate::openapi::routes(&mut routes);
    crate::v1::routes(&mut routes, accounts);
    crate::v2::routes(&mut routes, accounts);
    crate::dashboard::routes(&mut routes);
    if accounts {
        crate::setup::routes(&mut routes);
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_operation_is_there_once_and_says_what_it_does_and_answers() {
        let mut seen = HashSet::new();
        for operation in operations() {
            let place = format!("{} {}", operation.method, operation.path);
            assert!(operation.summary.ends_with('.'), "{place} has no summary");
            assert!(!operation.answers.is_empty(), "{place} documents no answer");
            assert!(seen.insert(place.clone()), "{place} is there twice");
        }
    }
}
