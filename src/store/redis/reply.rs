//! What is in a reply. A reply of another kind than the command has means that something else is in the key.

use redis::Value;

use crate::store::StoreError;

fn unexpected(what: &str, value: &Value) -> StoreError {
    StoreError::Damaged(format!("Redis replied with {} in place of {what}", kind(value)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list",
        Value::Okay => "OK",
        Value::ServerError(_) => "an error",
        _ => "something else",
    }
}

/// A string, or nothing.
pub(super) fn bytes_or_none(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        other => Err(unexpected("a text", &other)),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    bytes_or_none(value)?.ok_or_else(|| unexpected("a text", &Value::Nil))
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| StoreError::Damaged("a text in Redis is not UTF-8".to_owned()))
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
        other => Err(unexpected("a list", &other)),
    }
}

/// A number, also one that is written as text.
pub(super) fn number(value: Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| unexpected("a number", &Value::Int(number))),
        other => parse(&bytes(other)?),
    }
}

pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, StoreError> {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| StoreError::Damaged(format!("{:?} is no number", String::from_utf8_lossy(bytes))))
}
