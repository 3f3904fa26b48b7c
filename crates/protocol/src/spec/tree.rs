//! A spec as a tree in which each value knows its place: the same tree for TOML and for JSON.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

/// Deepest nesting of a JSON spec: a spec needs six levels.
pub(super) const MAX_DEPTH: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes of the text; empty if the tree did not come from one.
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// As written, so that `0.10` stays `0.10`.
    Number(String),
    Bool(bool),
    List(Vec<Node>),
    /// In the order of the text.
    Table(Vec<Entry>),
    /// A value that no key takes: a date, or null.
    Other(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub name_span: Range<usize>,
    pub node: Node,
}

pub(super) fn toml_table(table: DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(name, value)| Entry {
            name_span: name.span(),
            name: name.into_inner().into_owned(),
            node: Node { span: value.span(), value: toml_value(value.into_inner()) },
        })
        .collect();
    entries.sort_by_key(|entry| entry.name_span.start);
    Value::Table(entries)
}

fn toml_value(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let digits = number.as_str().trim_start_matches('+');
            // Hexadecimal and the like have no decimal text yet; what is too large for i128 stays as it is.
            let decimal = i128::from_str_radix(digits, number.radix()).map(|number| number.to_string());
            Value::Number(decimal.unwrap_or_else(|_| digits.to_owned()))
        }
        DeValue::Float(number) => Value::Number(number.as_str().trim_start_matches('+').to_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| Node { span: item.span(), value: toml_value(item.into_inner()) })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(table),
    }
}

/// The members of a JSON object, each value still unread.
struct RawMembers<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<BorrowedName<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(RawMembers(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A name that stays borrowed from the text when it has no escapes, so that its place can be told.
#[derive(Deserialize)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads one value; the text has been parsed once, so its syntax is good.
pub(super) fn json_node(raw: &RawValue, text: &str, depth: usize) -> Result<Node, (String, Range<usize>)> {
    let source = raw.get();
    let span = span_in(text, source);
    let bad = |error: serde_json::Error| (error.to_string(), span.clone());
    if depth == 0 {
        return Err((format!("nested more than {MAX_DEPTH} deep"), span));
    }
    let value = match source.as_bytes().first() {
        Some(b'{') => {
            let RawMembers(members) = serde_json::from_str(source).map_err(bad)?;
            let mut entries: Vec<Entry> = Vec::with_capacity(members.len());
            let mut names = HashSet::new();
            for (name, value) in members {
                let node = json_node(value, text, depth - 1)?;
                let name_span = match &name {
                    Cow::Borrowed(name) => span_in(text, name),
                    Cow::Owned(_) => node.span.clone(),
                };
                if !names.insert(name.clone()) {
                    return Err((format!("key '{name}' is there twice"), name_span));
                }
                entries.push(Entry { name: name.into_owned(), name_span, node });
            }
            Value::Table(entries)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(source).map_err(bad)?;
            Value::List(
                items.into_iter().map(|item| json_node(item, text, depth - 1)).collect::<Result<_, _>>()?,
            )
        }
        Some(b'"') => Value::Text(serde_json::from_str(source).map_err(bad)?),
        Some(b't' | b'f') => Value::Bool(source == "true"),
        Some(b'n') => Value::Other("null"),
        _ => Value::Number(source.to_owned()),
    };
    Ok(Node { span, value })
}

/// Where `part`, a slice of `text`, lies in it.
fn span_in(text: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

/// A tree without places, for a spec inside another message.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(|value| Node { span: 0..0, value })
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job spec")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, node)) = map.next_entry::<String, Node>()? {
            entries.push(Entry { name, name_span: 0..0, node });
        }
        Ok(Value::Table(entries))
    }
}
