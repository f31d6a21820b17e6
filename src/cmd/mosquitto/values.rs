//! Values of a `mosquitto.conf`, read as Mosquitto does, and of TOML.

use std::fmt;

/// A value of the new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    Texts(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::Number(number) => write!(f, "{number}"),
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            character if character.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(character))),
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

/// The first word: Mosquitto does not look at what stands behind it.
fn first_word(value: &str) -> &str {
    value.split([' ', '\t']).next().unwrap_or_default()
}

pub(super) fn flag(value: &str) -> Result<bool, String> {
    match first_word(value) {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        "" => Err("there is no value: true or false".to_owned()),
        word => Err(format!("{word:?} is neither true nor false")),
    }
}

/// A whole number, also in hexadecimal or octal, as C reads it.
pub(super) fn number(value: &str) -> Result<i64, String> {
    let word = first_word(value);
    if word.is_empty() {
        return Err("there is no value: a whole number".to_owned());
    }
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => i32::from_str_radix(digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i32::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    match parsed {
        Ok(number) if number >= 0 => Ok(sign * i64::from(number)),
        _ => Err(format!("{word:?} is not a whole number that fits")),
    }
}

/// A whole number between these two.
pub(super) fn number_within(value: &str, least: i64, most: i64) -> Result<u64, String> {
    let found = number(value)?;
    match u64::try_from(found) {
        Ok(number) if (least..=most).contains(&found) => Ok(number),
        _ => Err(format!("{found} is not between {least} and {most}")),
    }
}

/// Bytes: the one number that may be large.
pub(super) fn bytes(value: &str) -> Result<u64, String> {
    let word = first_word(value);
    word.parse().map_err(|_| format!("{word:?} is not a whole number"))
}

/// The whole value.
pub(super) fn text(value: &str) -> Result<String, String> {
    match value {
        "" => Err("there is no value".to_owned()),
        value => Ok(value.to_owned()),
    }
}

/// `2m`, `14d`: seconds.
pub(super) fn duration(value: &str) -> Result<u64, String> {
    let word = first_word(value);
    let error = || format!("{word:?} is not a number of s, h, d, w, m (30 days) or y, such as 14d");
    let unit = match word.chars().last() {
        Some('s') => 1,
        Some('h') => 3_600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        Some('m') => 30 * 86_400,
        Some('y') => 365 * 86_400,
        _ => return Err(error()),
    };
    let count: u32 = word[..word.len() - 1].parse().map_err(|_| error())?;
    match u64::from(count) * unit {
        0 => Err(error()),
        seconds => Ok(seconds),
    }
}
