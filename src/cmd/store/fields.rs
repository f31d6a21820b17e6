//! The fields of a JSON object, each taken once, so that what is left over is noticed.

use data_encoding::BASE64;
use serde_json::{Map, Value};

/// See the module.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    fn new(value: Value) -> Result<Fields, String> {
        match value {
            Value::Object(fields) => Ok(Fields(fields)),
            _ => Err("an object is expected".to_owned()),
        }
    }

    /// Nothing is left over.
    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("{name:?} is unknown")),
        }
    }

    pub(super) fn value(&mut self, name: &str) -> Result<Value, String> {
        self.0.remove(name).ok_or_else(|| format!("{name:?} is missing"))
    }

    /// `None` for null.
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<Value>, String> {
        Ok(Some(self.value(name)?).filter(|value| !value.is_null()))
    }

    /// What the object of this name has, and nothing besides.
    pub(super) fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields) -> Result<T, String>,
    ) -> Result<T, String> {
        let value = self.value(name)?;
        whole(value, read).map_err(|reason| format!("{name:?}: {reason}"))
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, String> {
        match self.value(name)? {
            Value::Array(items) => Ok(items),
            _ => Err(format!("{name:?} is no list")),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Box<str>, String> {
        let text = self.optional_text(name)?;
        text.ok_or_else(|| format!("{name:?} is no text"))
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Box<str>>, String> {
        match self.value(name)? {
            Value::Null => Ok(None),
            Value::String(text) if text.len() <= usize::from(u16::MAX) => Ok(Some(text.into())),
            _ => Err(format!("{name:?} is no text of at most 65535 bytes")),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        let flag = self.value(name)?.as_bool();
        flag.ok_or_else(|| format!("{name:?} is neither true nor false"))
    }

    pub(super) fn number<N: TryFrom<u64>>(&mut self, name: &str) -> Result<N, String> {
        let value = self.value(name)?;
        number(&value).map_err(|reason| format!("{name:?}: {reason}"))
    }

    pub(super) fn optional_number<N: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<N>, String> {
        let value = self.optional(name)?;
        let number = value.as_ref().map(number).transpose();
        number.map_err(|reason| format!("{name:?}: {reason}"))
    }

    pub(super) fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let bytes = match self.value(name)? {
            Value::String(text) => BASE64.decode(text.as_bytes()).ok(),
            _ => None,
        };
        bytes.ok_or_else(|| format!("{name:?} is no base64"))
    }
}

/// What the object has, and nothing besides.
pub(super) fn whole<T>(value: Value, read: impl FnOnce(&mut Fields) -> Result<T, String>) -> Result<T, String> {
    let mut fields = Fields::new(value)?;
    let read = read(&mut fields)?;
    fields.end()?;
    Ok(read)
}

pub(super) fn number<N: TryFrom<u64>>(value: &Value) -> Result<N, String> {
    let number = value.as_u64().and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number of its range"))
}
