//! The published schema: it is the code's, it accepts what the reader accepts, and it has no key more or less.

use std::path::Path;

use serde_json::Value as Json;

use super::super::decode::{AGGREGATES, SPEC_KEYS};
use super::super::tree::{Node, Value};
use super::super::{Document, json_schema};
use super::golden;

#[test]
fn the_published_schema_is_the_one_of_the_code() {
    let schema = serde_json::to_string_pretty(&json_schema()).expect("a schema is plain data") + "\n";
    let golden_schema = include_str!("../../../../../docs/job-spec.schema.json");
    golden::check(Path::new("../../docs/job-spec.schema.json"), golden_schema, &schema);
}

/// The schema is derived from the types and the reader has lists of its own.
#[test]
fn schema_and_reader_know_the_same_keys() {
    let schema = json_schema();
    let check = |schema: &Json, keys: &[&str]| {
        let properties = schema["properties"].as_object().expect("an object");
        let mut found: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut keys = keys.to_vec();
        found.sort_unstable();
        keys.sort_unstable();
        assert_eq!(found, keys);
    };
    check(&schema, SPEC_KEYS);
    let kinds = schema["$defs"]["AggregateSpec"]["oneOf"].as_array().expect("kinds");
    assert_eq!(kinds.len(), AGGREGATES.len());
    for (kind, (name, keys)) in kinds.iter().zip(AGGREGATES) {
        assert_eq!(kind["properties"]["how"]["const"], *name);
        check(kind, keys);
        assert_eq!(kind["additionalProperties"], false);
    }
}

#[test]
fn the_schema_refuses_what_is_no_spec() {
    let check = |text: &str| {
        let document = Document::toml("x.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(violation(&document).is_some(), "{text}");
    };
    check("command = ['x']");
    check("spec = 2\ncommand = ['x']");
    check("spec = 1\ncommand = []");
    check("spec = 1\ncommand = 'x'\nwalltime = 1");
    check("spec = 1\ncommand = 'x'\noutputs = [{ path = 'a', optionl = true }]");
    check("spec = 1\ncommand = 'x'\naggregate = { how = 'concta', out = 'a' }");
    check("spec = 1\ncommand = 'x'\nsplit = { input = 'a', format = 'fasta', parts = 1, records = 1 }");
    check("spec = 1\ncommand = 'x'\nresources = { memory = 2000 }");
}

/// The first place where the document is not as the published schema has it.
pub fn violation(document: &Document) -> Option<String> {
    let schema = json_schema();
    violates(&schema, &schema, &json(&document.root), "spec")
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Text(text) => text.as_str().into(),
        Value::Number(number) => serde_json::from_str(number).expect("a number of JSON too"),
        Value::Bool(value) => (*value).into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Table(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.name.clone(), json(&entry.node))).collect())
        }
        Value::Other(_) => Json::Null,
    }
}

/// The part of JSON Schema that ours uses.
fn violates(root: &Json, schema: &Json, value: &Json, at: &str) -> Option<String> {
    let is_of_type = |name: &Json| match name.as_str().expect("a type's name") {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    let accepted = |choices: &Json| {
        let choices = choices.as_array().expect("a list of schemas");
        choices.iter().filter(|choice| violates(root, choice, value, at).is_none()).count()
    };
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let violated = match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().and_then(|rule| rule.strip_prefix("#/$defs/")).expect("a reference");
                if let Some(found) = violates(root, &root["$defs"][name], value, at) {
                    return Some(found);
                }
                false
            }
            "type" => !rule.as_array().map_or_else(|| is_of_type(rule), |names| names.iter().any(is_of_type)),
            "anyOf" => accepted(rule) == 0,
            "oneOf" => accepted(rule) != 1,
            "const" => value != rule,
            "enum" => !rule.as_array().expect("a list").contains(value),
            "minimum" => value.as_f64().is_some_and(|value| value < rule.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_some_and(|value| value > rule.as_f64().expect("a number")),
            "minItems" => {
                value.as_array().is_some_and(|items| (items.len() as u64) < rule.as_u64().expect("a number"))
            }
            "maxItems" => {
                value.as_array().is_some_and(|items| items.len() as u64 > rule.as_u64().expect("a number"))
            }
            "required" => {
                let names = rule.as_array().expect("a list");
                value.is_object()
                    && names.iter().any(|name| value.get(name.as_str().expect("a name")).is_none())
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                let mut found =
                    items.filter_map(|(n, item)| violates(root, rule, item, &format!("{at}[{n}]")));
                if let Some(found) = found.next() {
                    return Some(found);
                }
                false
            }
            // `members` does these two.
            "properties"
            | "additionalProperties"
            | "$schema"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "pattern"
            | "format" => false,
            other => panic!("keyword {other} of the schema is not checked"),
        };
        if violated {
            return Some(format!("{at}: {keyword} {rule} refuses {value}"));
        }
    }
    members(root, schema, value, at)
}

fn members(root: &Json, schema: &Json, value: &Json, at: &str) -> Option<String> {
    value.as_object()?.iter().find_map(|(name, member)| {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (None, Json::Bool(false)) => Some(format!("{at}: unknown")),
            (None, Json::Null) => None,
            (Some(rule), _) | (None, rule) => violates(root, rule, member, &at),
        }
    })
}
