//! The OpenAPI 3.1 documents, written from the table of operations.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::app::App;
use crate::failure::Failure;
use crate::operation::{Operation, Routes, operations, table};

/// Adds the operations that serve the documents.
pub(crate) fn routes(routes: &mut Routes) {
    routes
        .get("/api/v1/openapi.json", Access::Open, async |State(app): State<App>| serve(&app, "v1"))
        .does("Returns the OpenAPI document of version 1.")
        .gives_media(200, "application/json");
    routes
        .get("/api/v2/openapi.json", Access::Open, async |State(app): State<App>| serve(&app, "v2"))
        .does("Returns the OpenAPI document of version 2.")
        .gives_media(200, "application/json");
}

fn serve(app: &App, version: &'static str) -> Response {
    document_of(table(app.config.accounts).operations(), version)
        .map_or_else(|| Failure::no_route().into_response(), |document| axum::Json(document).into_response())
}

/// Returns the OpenAPI document of `v1` or `v2`, as a router with local accounts serves it.
pub fn document(version: &str) -> Option<Value> {
    document_of(operations(), version)
}

fn document_of(operations: Vec<Operation>, version: &str) -> Option<Value> {
    let (title, prefix) = match version {
        "v1" => ("PulseStream API, version 1", "/api/v1/"),
        "v2" => ("PulseStream API, version 2", "/api/v2/"),
        _ => return None,
    };
    let mut schemas = failure_schemas(version);
    let mut paths = Map::new();
    let of_service = |path: &str| version == "v1" && !path.starts_with("/api/");
    for operation in operations {
        if operation.path.starts_with(prefix) || of_service(operation.path) {
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method.as_str().to_ascii_lowercase()] =
                describe(&operation, version, &mut schemas);
        }
    }
    Some(json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }))
}

fn describe(operation: &Operation, version: &str, schemas: &mut Map<String, Value>) -> Value {
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "tags": [tag(operation.path)],
        "responses": responses(operation, version, schemas),
    });
    let mut parameters = parameters(operation, schemas);
    if operation.takes_key && version == "v2" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The first answer under a key is given again for a day, and later while what was made is unchanged; another body under it is refused.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        }));
    }
    if !parameters.is_empty() {
        described["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = operation.body {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": body(schemas)}}});
    }
    if let Some(action) = operation.access.action() {
        let mut schemes = vec![json!({"bearer": []})];
        if action.scope().is_some() {
            schemes.insert(0, json!({"api_key": []}));
        }
        described["security"] = Value::Array(schemes);
        described["x-role"] = json!(action.weakest_role().as_str());
        if let Some(scope) = action.scope() {
            described["x-scope"] = json!(scope.as_str());
        }
    }
    described
}

/// `GET /api/v1/auth/tenant/profile` is `v1_get_auth_tenant_profile`.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.strip_prefix("/api/").unwrap_or(operation.path);
    let (version, rest) = path.split_once('/').unwrap_or(("", path));
    let words = rest.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = operation.method.as_str().to_ascii_lowercase();
    let parts = [version, method.as_str()].into_iter().filter(|part| !part.is_empty()).chain(words);
    parts.collect::<Vec<_>>().join("_")
}

fn tag(path: &str) -> &str {
    path.strip_prefix("/api/").and_then(|path| path.split('/').nth(1)).unwrap_or("service")
}

fn parameters(operation: &Operation, schemas: &mut Map<String, Value>) -> Vec<Value> {
    let names = operation.path.split('{').skip(1).filter_map(|part| part.split('}').next());
    let mut parameters: Vec<_> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if let Some(query) = operation.query {
        let mut own = Map::new();
        let reference = query(&mut own);
        let root = reference["$ref"].as_str().and_then(|it| it.rsplit('/').next()).map(str::to_owned);
        let schema = root.and_then(|name| own.remove(&name)).unwrap_or_default();
        schemas.extend(own);
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|it| it.remove("description"));
            let mut parameter =
                json!({"name": name, "in": "query", "required": required(name), "schema": property});
            if !required(name) {
                // As a form sends for a field that was left out.
                parameter["allowEmptyValue"] = json!(true);
            }
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameters.push(parameter);
        }
    }
    parameters
}

fn responses(operation: &Operation, version: &str, schemas: &mut Map<String, Value>) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let schema = answer.schema.map_or_else(|| json!({}), |schema| schema(schemas));
        let description =
            crate::status::title(axum::http::StatusCode::from_u16(answer.status).unwrap_or_default());
        let mut response = json!({"description": description});
        if !answer.media_type.is_empty() {
            response["content"] = json!({answer.media_type: {"schema": schema}});
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut failures = operation.failures.clone();
    if operation.access.action().is_some() {
        failures.extend([401, 403]);
    }
    if operation.query.is_some() || operation.body.is_some() {
        failures.push(422);
    }
    if operation.body.is_some() {
        failures.extend([400, 408, 413, 415]);
    }
    if operation.path.contains('{') {
        failures.push(404);
    }
    failures.extend([429, 500, 503, 504]);
    for status in failures {
        let (schema, media_type) = match (version, status) {
            ("v2", _) => ("Problem", "application/problem+json"),
            (_, 422) => ("ValidationFailure", "application/json"),
            _ => ("Failure", "application/json"),
        };
        let description = crate::status::title(axum::http::StatusCode::from_u16(status).unwrap_or_default());
        let mut content = Map::new();
        content.insert(
            media_type.to_owned(),
            json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}}),
        );
        let response = json!({"description": description, "content": content});
        responses.entry(status.to_string()).or_insert(response);
    }
    Value::Object(responses)
}

/// The bodies of failures, which the surface writes.
fn failure_schemas(version: &str) -> Map<String, Value> {
    let schemas = if version == "v2" {
        json!({"Problem": {
            "type": "object",
            "description": "Problem details (RFC 9457).",
            "required": ["type", "title", "status", "detail", "code", "request_id"],
            "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "detail": {"type": "string"}, "code": {"type": "string"}, "request_id": {"type": "string"},
                "retry_after": {"type": "integer", "description": "Seconds."},
                "errors": {"type": "array", "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {
                        "pointer": {"type": "string"}, "parameter": {"type": "string"},
                        "code": {"type": "string"}, "detail": {"type": "string"},
                    },
                }},
                "context": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }})
    } else {
        json!({
            "Failure": {
                "type": "object",
                "required": ["error", "message", "status_code", "details"],
                "properties": {
                    "error": {"type": "string"}, "message": {"type": "string"},
                    "status_code": {"type": "integer"}, "details": {"type": "object"},
                },
            },
            "ValidationFailure": {
                "type": "object",
                "required": ["error", "message"],
                "properties": {
                    "detail": {"type": "array", "items": {
                        "type": "object",
                        "required": ["loc", "msg", "type"],
                        "properties": {
                            "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                            "msg": {"type": "string"}, "type": {"type": "string"},
                        },
                    }},
                    "error": {"type": "string"}, "message": {"type": "string"},
                    "status_code": {"type": "integer"}, "details": {"type": "object"},
                },
            },
        })
    };
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
