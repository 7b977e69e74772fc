//! From the table of operations to the document.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use schemars::{
    JsonSchema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::operations::{IN_SPACE, operations};
use crate::server::problem::{Code, ProblemView};

/// What a path takes, for one method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// As the router has it; below `/v1` where it is in each space.
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) in_each_space: bool,
    pub(super) params: &'static [Param],
    pub(super) errors: &'static [&'static [Code]],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) place: Place,
    pub(super) name: &'static str,
    /// JSON.
    pub(super) schema: &'static str,
    pub(super) what: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// What is answered when all goes well.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) what: &'static str,
    pub(super) content: Vec<(&'static str, Value)>,
}

/// What is sent.
pub(super) struct Body {
    pub(super) content_type: &'static str,
    pub(super) schema: Value,
}

/// The schemas of types, as they are read and as they are written.
pub(super) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = |contract| {
            let set = |settings: &mut SchemaSettings| {
                settings.definitions_path = "/components/schemas".into();
                settings.contract = contract;
            };
            SchemaSettings::draft2020_12().with(set).into_generator()
        };
        Self { read: settings(Contract::Deserialize), written: settings(Contract::Serialize) }
    }

    pub(super) fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    pub(super) fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    fn all(mut self) -> Map<String, Value> {
        let mut all = self.read.take_definitions(true);
        all.append(&mut self.written.take_definitions(true));
        all
    }
}

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.written::<ProblemView>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (operation, answers, bodies) in operations(&mut schemas) {
        let shape = Shape { operation, answers: &answers, bodies: &bodies, problem: &problem };
        let mut add = |path: String, in_space| {
            let shape = shape.of(in_space, path.contains("{id}"));
            paths.entry(path).or_default().insert(operation.method.to_owned(), shape);
        };
        let path = operation.path;
        if operation.in_each_space {
            add(format!("/v1{path}"), false);
            add(format!("/v1/spaces/{{space}}{path}"), true);
        } else {
            add(path.to_owned(), false);
        }
        // The one id whose path has no parameter, since batches are posted there.
        if let Some(path) = path.strip_suffix("/{id}") {
            add(format!("/v1{path}/batch"), false);
            add(format!("/v1/spaces/{{space}}{path}/batch"), true);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Engram",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A durable memory server for AI agents and applications.",
            "description": "Each acknowledged change is in a write-ahead log first; its receipt says how durable it is, and where \
                            in the log it is. Paths without a space are about the space `default`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.all(),
        },
    })
}

/// One operation, with all that belongs to it.
struct Shape<'a> {
    operation: Operation,
    answers: &'a [Answer],
    bodies: &'a [Body],
    problem: &'a Value,
}

impl Shape<'_> {
    fn of(&self, in_space: bool, has_id: bool) -> Value {
        let Operation { name, what, params, errors, .. } = self.operation;
        let (space, of_space) = IN_SPACE;
        let is_called_batch = !has_id && params.iter().any(|param| param.name == "id");
        let params = params.iter().copied().filter(|param| has_id || param.name != "id");
        let params = in_space.then_some(space).into_iter().chain(params).map(param);
        let of_space = in_space.then_some(of_space);
        let codes = errors.iter().copied().chain(of_space).flatten().copied();
        let name = if is_called_batch { format!("{name}_batch") } else { name.to_owned() };
        let id = if in_space { format!("{name}_in_space") } else { name };
        let mut shape = json!({
            "operationId": id,
            "summary": what,
            "tags": [if in_space { "in a space" } else { "memories and server" }],
            "parameters": params.collect::<Vec<_>>(),
            "responses": self.responses(codes),
        });
        if !self.bodies.is_empty() {
            let content = self.bodies.iter().map(|body| (body.content_type, &body.schema));
            shape["requestBody"] = json!({"required": true, "content": media(content)});
        }
        shape
    }

    fn responses(&self, codes: impl Iterator<Item = Code>) -> Map<String, Value> {
        let mut responses = Map::new();
        for Answer { status, what, content } in self.answers {
            let mut response = json!({"description": what});
            if !content.is_empty() {
                let content = content.iter().map(|(content_type, schema)| (*content_type, schema));
                response["content"] = media(content);
            }
            responses.insert(status.as_str().to_owned(), response);
        }
        let mut by_status: BTreeMap<StatusCode, BTreeSet<&str>> = BTreeMap::new();
        for code in codes {
            let row = code.row();
            by_status.entry(row.status).or_default().insert(row.name);
        }
        for (status, names) in by_status {
            let names = names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let response = json!({
                "description": names,
                "content": media([("application/problem+json", self.problem)].into_iter()),
            });
            responses.insert(status.as_str().to_owned(), response);
        }
        responses
    }
}

fn media<'a>(content: impl Iterator<Item = (&'a str, &'a Value)>) -> Value {
    content.map(|(content_type, schema)| (content_type.to_owned(), json!({"schema": schema}))).collect()
}

fn param(param: Param) -> Value {
    let Param { place, name, schema, what } = param;
    let place = match place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    // Our own table; a test reads all of it.
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    json!({"in": place, "name": name, "required": place == "path", "schema": schema, "description": what})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let name = reference.split('"').next().unwrap().strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                for param in operation["parameters"].as_array().unwrap() {
                    assert!(param["schema"].is_object(), "{method} {path}: {param}");
                    let name = format!("{{{}}}", param["name"].as_str().unwrap());
                    assert_eq!(param["in"] == "path", path.contains(&name), "{method} {path}: {name}");
                }
                let params = operation["parameters"].as_array().unwrap().iter();
                assert_eq!(
                    params.filter(|it| it["in"] == "path").count(),
                    path.matches('{').count(),
                    "{path}"
                );
            }
        }
    }
}
