//! The field types of protobuf JSON.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor, value::StrDeserializer};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::error::Error;

/// An int64: `7`, `7.0` or `"7"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Int(pub i64);

/// A double: a number, `"1.5"`, `"NaN"`, `"Infinity"` or `"-Infinity"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Double(pub f64);

/// A bool: `true` or `"true"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

/// An enum by its name or number; what it means is for the reader to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Name(String),
    Number(i64),
}

/// A repeated field: an array, nothing, or in a query string a single value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// A param or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, DeriveDeserialize)]
pub struct KeyValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl From<(String, String)> for KeyValue {
    fn from((key, value): (String, String)) -> Self {
        Self {
            key: Some(key),
            value: Some(value),
        }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The text of a field that must be there; an empty one counts as absent.
///
/// # Errors
/// [`Error::Missing`].
pub fn required(value: Option<String>, parameter: &str) -> Result<String, Error> {
    value
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Error::Missing(parameter.to_owned()))
}

/// The value of a field that must be there.
///
/// # Errors
/// [`Error::Missing`].
pub fn required_value<T>(value: Option<T>, parameter: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::Missing(parameter.to_owned()))
}

/// The keys and values of a list of params or tags; each must have a key.
///
/// # Errors
/// [`Error::Missing`] naming the element, such as `tags[1].key`.
pub fn pairs(list: List<KeyValue>, parameter: &str) -> Result<Vec<(String, String)>, Error> {
    let named = |(index, pair): (usize, KeyValue)| {
        let key = pair
            .key
            .filter(|key| !key.is_empty())
            .ok_or_else(|| Error::Missing(format!("{parameter}[{index}].key")))?;
        Ok((key, pair.value.unwrap_or_default()))
    };
    list.0.into_iter().enumerate().map(named).collect()
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Int;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit integer")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Int, E> {
                Ok(Int(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Int, E> {
                let v = i64::try_from(v);
                v.map(Int)
                    .map_err(|_| E::custom("it is larger than a 64-bit integer can be"))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Int, E> {
                // Above 2^53 a float no longer names one integer.
                if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 {
                    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
                    return Ok(Int(v as i64));
                }
                Err(E::invalid_type(de::Unexpected::Float(v), &self))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Int, E> {
                v.trim()
                    .parse()
                    .map(Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Double;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Double, E> {
                Ok(Double(v as f64))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Double, E> {
                Ok(Double(v as f64))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Double, E> {
                Ok(Double(v))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Double, E> {
                // Rust reads "NaN", "inf" and "Infinity" in any case.
                v.trim()
                    .parse()
                    .map(Double)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(v))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Flag, E> {
                match v.to_ascii_lowercase().as_str() {
                    "true" => Ok(Flag(true)),
                    "false" => Ok(Flag(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(v), &self)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name or number of an enum value")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Choice, E> {
                Ok(Choice::Number(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Choice, E> {
                Ok(Choice::Number(i64::try_from(v).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Choice, E> {
                Ok(v.parse()
                    .map_or_else(|_| Choice::Name(v.to_owned()), Choice::Number))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_unit<E: de::Error>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<List<T>, E> {
                let one = T::deserialize(StrDeserializer::<E>::new(v));
                let one = one.map_err(|_| E::invalid_type(de::Unexpected::Str(v), &self))?;
                Ok(List(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::with_capacity(items.size_hint().unwrap_or(0));
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}
