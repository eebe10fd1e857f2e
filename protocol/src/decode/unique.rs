//! JSON in which no object names a field twice. Readers differ in which of the two they take, so that one of them could
//! carry what nobody has checked.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// By this the error of a field that is named twice is recognised.
pub(super) const TWICE: &str = "a field is named twice";

/// By this the error of a number is recognised that is out of all bounds.
pub(super) const OUT_OF_RANGE: &str = "a number is out of range";
/// How many characters a number may have, and how large its exponent may be: what PostgreSQL keeps goes further.
const LONGEST_NUMBER: usize = 400;
/// The one key of what serde_json gives in the place of a number that no type of Rust's holds as it's written.
const NUMBER: &str = "$serde_json::private::Number";

/// Reads a whole text.
pub(super) fn from_slice(text: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Unique.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Unique)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Unique)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        match map.get(NUMBER) {
            Some(Value::String(text)) if map.len() == 1 => number(text),
            _ => Ok(Value::Object(map)),
        }
    }
}

/// A number as it's written: what is echoed must come back unchanged.
fn number<E: serde::de::Error>(text: &str) -> Result<Value, E> {
    let exponent = text.split(['e', 'E']).nth(1).map_or(Ok(0), str::parse::<i32>);
    let fits = exponent.is_ok_and(|e| e.unsigned_abs() as usize <= LONGEST_NUMBER) && text.len() <= LONGEST_NUMBER;
    let number = text.parse().ok().filter(|_| fits);
    number.map(Value::Number).ok_or_else(|| E::custom(OUT_OF_RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_read_as_without_the_rule() {
        let text = br#"{"a": [1, -2, 3.5, "x\u0041", true, null, {}], "b": {"a": {"a": 18446744073709551615}}}"#;
        assert_eq!(from_slice(text).ok(), serde_json::from_slice(text).ok());
        for wrong in ["", "{", "{} {}", "[1,]", "{\"a\":1,}", &"[".repeat(200)] {
            assert!(from_slice(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_stay_as_they_are_written_unless_no_database_keeps_them() {
        let kept =
            r#"[12345678901234567890123,-12345678901234567890123,0.10,3.141592653589793238,1e30,18446744073709551616]"#;
        assert_eq!(
            from_slice(kept.as_bytes()).map(|value| value.to_string().replace("e+", "e")).ok().as_deref(),
            Some(kept)
        );
        for wrong in ["1e401", "-1e-401", "1e99999999999", &"9".repeat(401)] {
            let error = from_slice(format!("[{wrong}]").as_bytes()).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.starts_with(OUT_OF_RANGE)), "{wrong}");
        }
    }

    #[test]
    fn a_field_that_is_named_twice_is_refused_however_it_is_spelt() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"\u0061":1}}]"#] {
            let error = from_slice(text.as_bytes()).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.contains(TWICE)), "{text}");
        }
    }
}
