//! The functions that conditions may call: a closed list, so that the work of each is known.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use kube::core::cel::cel::{
    Context, ExecutionError, FunctionContext, ResolveResult, Value,
    common::{types, value::Val},
    functions,
};
use regex::{Regex, RegexBuilder};

/// How large a compiled pattern may be; it bounds the work for each byte it looks at.
const MAX_PATTERN: usize = 64 * 1024;

/// What a function gives, by the size of what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// A bool, a number, a time.
    One,
    /// Text that is no longer than what it was given.
    NoMore,
    /// A list of its pieces.
    Pieces,
    /// A bool, after a pattern looked at each byte.
    Match,
}

/// A function, as an expression may call it.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Called on a value: `value.name()`.
    pub(super) method: bool,
    /// Arguments besides that value.
    pub(super) arguments: usize,
    pub(super) gives: Gives,
}

const fn function(name: &'static str, method: bool, arguments: usize, gives: Gives) -> Function {
    Function { name, method, arguments, gives }
}

/// Whether a map has a key; `has()` becomes this.
pub(super) const HAS: &str = "@has";
/// Equality that knows that 7 and 7.0 are equal; `==` and `!=` become this.
pub(super) const EQUAL: &str = "@equal";
/// Whether a list has a value, or a map a key, by that same equality; `in` becomes this.
pub(super) const AMONG: &str = "@among";

/// All that may be called.
pub(super) const FUNCTIONS: &[Function] = &[
    function("size", true, 0, Gives::One),
    function("size", false, 1, Gives::One),
    function("contains", true, 1, Gives::One),
    function("startsWith", true, 1, Gives::One),
    function("endsWith", true, 1, Gives::One),
    function("matches", true, 1, Gives::Match),
    function("lowerAscii", true, 0, Gives::NoMore),
    function("upperAscii", true, 0, Gives::NoMore),
    function("trim", true, 0, Gives::NoMore),
    function("split", true, 1, Gives::Pieces),
    function("string", false, 1, Gives::NoMore),
    function("int", false, 1, Gives::One),
    function("double", false, 1, Gives::One),
    function("timestamp", false, 1, Gives::One),
    function("duration", false, 1, Gives::One),
];

/// The patterns of a policy by their text, compiled once.
#[derive(Clone, Default)]
pub(super) struct Patterns(Arc<HashMap<String, Regex>>);

impl Patterns {
    pub(super) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN * 8)
            .build()
            .map_err(|error| format!("matches: {pattern:.80?} is no pattern that can be used: {error:.200}"))?;
        Arc::make_mut(&mut self.0).insert(pattern.to_owned(), regex);
        Ok(())
    }
}

/// A context with these functions, and without variables.
pub(super) fn context(patterns: &Patterns) -> Context<'static> {
    let mut context = Context::empty();
    let to = &mut context;
    add(to, HAS, |call| {
        let (map, key) = (resolve(call, 0)?, resolve(call, 1)?);
        // The evaluator has no key in what is no map; a condition that asks for the absence of one would hold.
        if map.get_type() != types::MAP_TYPE {
            return Err(call.error("is asked of something that is no map"));
        }
        let map = map.as_container().ok_or(ExecutionError::NoSuchOverload)?;
        Ok(map.contains(key.as_ref())?.into())
    });
    add(to, EQUAL, |call| {
        let (left, right) = (resolve(call, 0)?, resolve(call, 1)?);
        Ok((Value::try_from(left.as_ref())? == Value::try_from(right.as_ref())?).into())
    });
    add(to, AMONG, |call| {
        let (value, among) = (resolve(call, 0)?, resolve(call, 1)?);
        let value = Value::try_from(value.as_ref())?;
        match Value::try_from(among.as_ref())? {
            Value::List(list) => Ok(list.contains(&value).into()),
            Value::Map(map) => Ok(map.map.keys().any(|key| Value::from(key) == value).into()),
            other => Err(call.error(format!("in {}, which has no elements", kind(&other)))),
        }
    });
    add(to, "size", |call| {
        let size = match &subject(call)? {
            Value::List(list) => list.len(),
            Value::Map(map) => map.map.len(),
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            other => return Err(call.error(format!("of {}", kind(other)))),
        };
        i64::try_from(size).map(Value::Int).map_err(|_| call.error("too large"))
    });
    add(to, "contains", |call| with_text(call, |text, part| text.contains(part).into()));
    add(to, "startsWith", |call| with_text(call, |text, part| text.starts_with(part).into()));
    add(to, "endsWith", |call| with_text(call, |text, part| text.ends_with(part).into()));
    add(to, "split", |call| {
        with_text(call, |text, separator| Value::List(Arc::new(text.split(separator).map(Value::from).collect())))
    });
    let patterns = patterns.clone();
    add(to, "matches", move |call| {
        let pattern = argument(call)?;
        let regex = patterns.0.get(pattern.as_str()).ok_or_else(|| call.error("the pattern was not compiled"))?;
        Ok(regex.is_match(&text(call, &subject(call)?)?).into())
    });
    add(to, "lowerAscii", |call| Ok(text(call, &subject(call)?)?.to_ascii_lowercase().into()));
    add(to, "upperAscii", |call| Ok(text(call, &subject(call)?)?.to_ascii_uppercase().into()));
    add(to, "trim", |call| Ok(text(call, &subject(call)?)?.trim().into()));
    add(to, "string", string);
    add(to, "int", int);
    add(to, "double", double);
    add(to, "timestamp", |call| match &subject(call)? {
        Value::Timestamp(time) => Ok(Value::Timestamp(*time)),
        other => functions::timestamp(text(call, other)?),
    });
    add(to, "duration", |call| match &subject(call)? {
        Value::Duration(duration) => Ok(Value::Duration(*duration)),
        other => functions::duration(text(call, other)?),
    });
    context
}

fn add(
    context: &mut Context<'static>,
    name: &str,
    function: impl Fn(&FunctionContext<'_, '_>) -> ResolveResult + Send + Sync + 'static,
) {
    context.add_function(name, function);
}

fn resolve<'a>(call: &FunctionContext<'a, 'a>, index: usize) -> Result<Cow<'a, dyn Val>, ExecutionError> {
    let expected = || ExecutionError::invalid_argument_count(index + 1, call.args.len());
    Value::resolve_val(call.args.get(index).ok_or_else(expected)?, call.ptx)
}

/// What a method is called on, or the first argument of a function.
fn subject(call: &FunctionContext<'_, '_>) -> ResolveResult {
    match (&call.this, call.args.first()) {
        (Some(this), _) => Ok(this.clone()),
        (None, Some(first)) => Value::resolve(first, call.ptx),
        (None, None) => Err(ExecutionError::missing_argument_or_target()),
    }
}

/// The text that is the argument of a method.
fn argument(call: &FunctionContext<'_, '_>) -> Result<Arc<String>, ExecutionError> {
    let expected = || ExecutionError::invalid_argument_count(1, call.args.len());
    text(call, &Value::resolve(call.args.first().ok_or_else(expected)?, call.ptx)?)
}

fn text(call: &FunctionContext<'_, '_>, value: &Value) -> Result<Arc<String>, ExecutionError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(call.error(format!("needs a string, not {}", kind(other)))),
    }
}

fn with_text(call: &FunctionContext<'_, '_>, of: impl Fn(&str, &str) -> Value) -> ResolveResult {
    Ok(of(&text(call, &subject(call)?)?, &argument(call)?))
}

fn string(call: &FunctionContext<'_, '_>) -> ResolveResult {
    Ok(match subject(call)? {
        Value::String(text) => Value::String(text),
        Value::Int(int) => int.to_string().into(),
        Value::UInt(int) => int.to_string().into(),
        Value::Float(float) => float.to_string().into(),
        Value::Bool(bool) => bool.to_string().into(),
        Value::Timestamp(time) => time.to_rfc3339().into(),
        other => return Err(call.error(format!("of {}", kind(&other)))),
    })
}

fn int(call: &FunctionContext<'_, '_>) -> ResolveResult {
    let int = match &subject(call)? {
        Value::Int(int) => Some(*int),
        Value::UInt(int) => i64::try_from(*int).ok(),
        Value::String(text) => text.parse().ok(),
        #[expect(clippy::cast_possible_truncation, reason = "within the bounds checked before")]
        Value::Float(float) if float.abs() < 9e15 => Some(float.trunc() as i64),
        _ => None,
    };
    int.map(Value::Int).ok_or_else(|| call.error("is asked of something that is no whole number"))
}

fn double(call: &FunctionContext<'_, '_>) -> ResolveResult {
    #[expect(clippy::cast_precision_loss, reason = "a double is what is asked for")]
    let double = match &subject(call)? {
        Value::Float(float) => Some(*float),
        Value::Int(int) => Some(*int as f64),
        Value::UInt(int) => Some(*int as f64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    double.map(Value::Float).ok_or_else(|| call.error("is asked of something that is no number"))
}

/// What kind of value it is, in the language's words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Int(_) | Value::UInt(_) => "an int",
        Value::Float(_) => "a double",
        Value::String(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "a bool",
        Value::Duration(_) => "a duration",
        Value::Timestamp(_) => "a timestamp",
        Value::Null => "null",
        _ => "of another type",
    }
}
