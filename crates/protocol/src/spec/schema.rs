//! The published JSON Schema of the job spec, for editors that complete and check while one types.
//!
//! Derived from `types`; written out here are the values that have a short form beside the long one.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::types::{ColumnSpec, InputFile, OutputSpec, Spec, SplitSpec, SweepValues};
use crate::split::SplitFormat;

/// The schema (draft 2020-12) that a spec's JSON form satisfies, and its TOML form in editors that map it.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Spec).to_value();
    without_null(&mut schema);
    // An editor's own marker in a JSON file; the reader ignores it too.
    schema["properties"]["$schema"] = serde_json::json!({ "type": "string" });
    schema
}

/// Takes null out of every type: an optional key is left out, it is never null.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    members.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(one)] = choices.as_slice() {
                    let one = one.clone();
                    members.remove("anyOf");
                    members.extend(one);
                }
            }
            members.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A value, or a list of such values.
pub(super) struct OneOrMany<T>(PhantomData<T>);

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

/// A text, or a number or boolean that is taken as its text.
pub(super) struct Scalar;

/// Whether there is a display, or its size.
pub(super) struct Gui;

/// A command as one text or as its words.
pub(super) struct Command;

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

schema!(SweepValues, "SweepValues", |generator| json_schema!({
    "description": "The values that one name takes: a list, the files of a glob, or a range of numbers.",
    "anyOf": [
        { "type": "array", "items": generator.subschema_for::<Scalar>(), "minItems": 1 },
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

schema!(OutputSpec, "Output", |_generator| json_schema!({
    "description": "A file that a subjob leaves: its path, or { path, optional }.",
    "anyOf": [
        { "type": "string" },
        {
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "description": "Path below the working directory, with placeholders.",
                },
                "optional": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whether its absence is no failure.",
                },
            },
            "required": ["path"],
            "additionalProperties": false,
        },
    ],
}));

schema!(Scalar, "Scalar", |_generator| json_schema!({ "type": ["string", "number", "boolean"] }));

schema!(Gui, "Gui", |_generator| json_schema!({
    "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^[0-9]+x[0-9]+$" }],
}));

schema!(Command, "Command", |generator| {
    let word = generator.subschema_for::<Scalar>();
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": word, "minItems": 1 }] })
});
