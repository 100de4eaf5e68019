//! A signed statement as the evaluator sees it, bounded in bytes, values and depth while it is read.

use std::{cell::Cell, collections::HashMap, fmt, sync::Arc};

use jiff::Timestamp;
use kube::core::cel::cel::{
    self, Context, Value,
    objects::{Key, Map},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    functions::{self, Patterns},
    work::{Size, Sizes, text_size},
};
use crate::text::bounded;

/// Statements are evaluated up to this.
const MAX_BYTES: usize = 1024 * 1024;
/// Values in one statement at most: each element, member and scalar is one.
const MAX_VALUES: u32 = 50_000;
const MAX_DEPTH: usize = 64;

/// What conditions may name, besides the variables of comprehensions.
pub(super) const VARIABLES: [&str; 4] = ["predicate", "predicateType", "subject", NOW];
/// The time of the request.
pub(super) const NOW: &str = "now";

/// A statement whose signature was verified.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    predicate: Option<Bounded>,
    predicate_type: String,
    subject: Bounded,
}

/// A value, and what it weighs.
struct Bounded {
    value: Value,
    values: u32,
    size: Size,
}

impl Document {
    /// From the payload of an envelope; the error says why it is not evaluated.
    pub(super) fn read(payload: &[u8]) -> Result<Self, String> {
        if payload.len() > MAX_BYTES {
            let length = payload.len();
            return Err(format!("unsupported: too large: a statement of {length} bytes, more than {MAX_BYTES}"));
        }
        let document: Self = serde_json::from_slice(payload)
            .map_err(|error| format!("a statement that can't be evaluated: {}", bounded(&error, 160)))?;
        if document.predicate.is_none() {
            return Err("a statement without a predicate".to_owned());
        }
        Ok(document)
    }

    /// Values in the predicate.
    pub(super) fn values(&self) -> u32 {
        self.predicate.as_ref().map_or(0, |predicate| predicate.values)
    }

    /// Sizes of the variables.
    pub(super) fn sizes(&self) -> Sizes {
        let one = |size| Size { size, longest: 0 };
        Sizes::from([
            ("predicate", self.predicate.as_ref().map_or(one(1), |predicate| predicate.size)),
            ("predicateType", one(text_size(&self.predicate_type))),
            ("subject", self.subject.size),
            (NOW, one(1)),
        ])
    }

    /// With the statement and the time as variables.
    pub(super) fn context(&self, patterns: &Patterns, now: Timestamp) -> Context<'static> {
        let mut context = functions::context(patterns);
        if let Some(predicate) = &self.predicate {
            context.add_variable_from_value("predicate", predicate.value.clone());
        }
        context.add_variable_from_value("predicateType", self.predicate_type.as_str());
        context.add_variable_from_value("subject", self.subject.value.clone());
        if let Ok(now) = cel::functions::timestamp(Arc::new(now.to_string())) {
            context.add_variable_from_value(NOW, now);
        }
        context
    }
}

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (values, size) = (Cell::new(0), Cell::new(Size { size: 0, longest: 0 }));
        let value = Node { values: &values, size: &size, depth: 0 }.deserialize(deserializer)?;
        Ok(Self { value, values: values.get(), size: size.get() })
    }
}

/// One value being read.
#[derive(Clone, Copy)]
struct Node<'a> {
    values: &'a Cell<u32>,
    size: &'a Cell<Size>,
    depth: usize,
}

impl Node<'_> {
    fn count<E: Error>(self, size: u64) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        let before = self.size.get();
        self.size.set(Size { size: before.size + size, ..before });
        if self.values.get() > MAX_VALUES {
            return Err(E::custom(format_args!("unsupported: too large: more than {MAX_VALUES} values")));
        }
        if self.depth > MAX_DEPTH {
            return Err(E::custom(format_args!("unsupported: too large: nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    fn below(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn of_length(self, length: usize) {
        let before = self.size.get();
        self.size.set(Size { longest: before.longest.max(length as u64), ..before });
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.count(1).map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.count(1).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.count(1).map(|()| Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.count(1).map(|()| i64::try_from(value).map_or(Value::UInt(value), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.count(1).map(|()| Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.count(text_size(value)).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.count(1)?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.below())? {
            values.push(value);
        }
        self.of_length(values.len());
        Ok(Value::List(Arc::new(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.count(1)?;
        let mut map = HashMap::new();
        while let Some(key) = members.next_key::<String>()? {
            self.count(text_size(&key))?;
            let value = members.next_value_seed(self.below())?;
            // Readers disagree on which of two counts.
            if map.insert(Key::from(key.as_str()), value).is_some() {
                return Err(A::Error::custom(format_args!("{key:.80?} is there twice")));
            }
        }
        self.of_length(map.len());
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }
}
