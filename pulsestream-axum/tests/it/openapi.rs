//! The OpenAPI documents.

use pulsestream_axum::{openapi_document, operations};
use serde_json::Value;

use crate::server::Server;

#[tokio::test]
async fn the_documents_are_served() {
    let server = Server::start().await;
    for version in ["v1", "v2"] {
        let served = server.get(&format!("/api/{version}/openapi.json")).await;
        assert_eq!(served.status, 200);
        assert_eq!(Some(served.json()), openapi_document(version));
    }
}

#[test]
fn every_operation_is_in_a_document() {
    let documents = ["v1", "v2"].map(|version| openapi_document(version).unwrap());
    for operation in operations() {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = documents.iter().find_map(|document| document["paths"][operation.path].get(&method));
        let described = described.unwrap_or_else(|| panic!("{method} {} is not described", operation.path));
        assert_eq!(
            described.get("security").is_some(),
            operation.access.action().is_some(),
            "{}",
            operation.path
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let target = document.pointer(reference.trim_start_matches('#'));
                    assert!(target.is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|value| visit(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| visit(value, document)),
            _ => {}
        }
    }
    for version in ["v1", "v2"] {
        let document = openapi_document(version).unwrap();
        visit(&document, &document);
    }
}

#[test]
fn operation_ids_are_unique() {
    let mut seen = std::collections::HashSet::new();
    for version in ["v1", "v2"] {
        let document = openapi_document(version).unwrap();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                assert!(seen.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            }
        }
    }
}

#[test]
fn version_1_stays_as_it_is() {
    insta::assert_json_snapshot!(openapi_document("v1").unwrap());
}

/// Version 2 grows; the snapshot shows how, and that nothing that was there goes.
#[test]
fn version_2_is_written_down() {
    insta::assert_json_snapshot!(openapi_document("v2").unwrap());
}
