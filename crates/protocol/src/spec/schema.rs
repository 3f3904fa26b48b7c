//! The published JSON Schema of the job spec, for editors that complete and check while one types.
//!
//! Derived from `types`; written out here are the values that have a short form beside the long one.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::types::{ColumnSpec, InputFile, Spec, SplitSpec, SweepValues};
use crate::split::SplitFormat;

/// The schema (draft 2020-12) that a spec's JSON form satisfies, and its TOML form in editors that map it.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Spec);
    // An editor's own marker in a JSON file; the reader ignores it too.
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("$schema".to_owned(), serde_json::json!({ "type": "string" }));
    }
    schema.to_value()
}

/// One text, or a list of texts.
pub(super) type TextOrList = OneOrMany<String>;

/// A value, or a list of such values.
pub(super) struct OneOrMany<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Implements `JsonSchema` by the expression that gives it.
macro_rules! schema {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(InputFile, "InputFile", |_generator| json_schema!({
    "description": "A file of the submitter: its path, or { path, as }.",
    "anyOf": [
        { "type": "string" },
        {
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Path of the file." },
                "as": { "type": "string", "description": "Path below the working directory." },
            },
            "required": ["path"],
            "additionalProperties": false,
        },
    ],
}));

schema!(SplitSpec, "Split", |generator| json_schema!({
    "description": "Cuts one input into runs of whole records.",
    "type": "object",
    "properties": {
        "input": { "type": "string", "description": "Name of the input." },
        "format": generator.subschema_for::<SplitFormat>(),
        "records": { "type": "integer", "minimum": 1, "description": "Records in each chunk." },
        "parts": { "type": "integer", "minimum": 1, "description": "Number of chunks." },
        "bytes": { "type": "string", "description": "Least size of each chunk, such as 64MiB." },
    },
    "required": ["input", "format"],
    "oneOf": [{ "required": ["records"] }, { "required": ["parts"] }, { "required": ["bytes"] }],
    "additionalProperties": false,
}));

schema!(SweepValues, "SweepValues", |_generator| json_schema!({
    "description": "The values that one name takes: a list, the files of a glob, or a range of numbers.",
    "anyOf": [
        { "type": "array", "items": { "type": ["string", "number", "boolean"] }, "minItems": 1 },
        {
            "type": "object",
            "properties": { "glob": { "type": "string" } },
            "required": ["glob"],
            "additionalProperties": false,
        },
        {
            "type": "object",
            "properties": {
                "range": {
                    "description": "[from, to] or [from, to, step], both ends included.",
                    "type": "array",
                    "items": { "type": ["number", "string"] },
                    "minItems": 2,
                    "maxItems": 3,
                },
            },
            "required": ["range"],
            "additionalProperties": false,
        },
    ],
}));

schema!(ColumnSpec, "Column", |_generator| json_schema!({
    "description": "A sweep value's name, index or seed; or { name, value } or { name, regex }.",
    "anyOf": [
        { "type": "string" },
        {
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "value": { "type": "string", "description": "Text with placeholders." },
                "regex": { "type": "string", "description": "Its first group (or all) is the cell." },
            },
            "required": ["name"],
            "oneOf": [{ "required": ["value"] }, { "required": ["regex"] }],
            "additionalProperties": false,
        },
    ],
}));
