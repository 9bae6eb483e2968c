//! The named options of a request, as both protocols carry them: kept as they came, so that who knows a name
//! reads it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use ired_proto::inference::InferParameter;
use ired_proto::inference::infer_parameter::ParameterChoice;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Error, shown};

/// Options of one request: more than any client has, few enough to be kept while it waits.
const COUNT: usize = 64;
/// Bytes of a name, or of a text.
const TEXT_BYTES: usize = 4096;

/// One option.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Bool(bool),
    /// Every whole number of a JSON request that fits.
    Int64(i64),
    /// In JSON, a whole number that only fits here.
    Uint64(u64),
    Double(f64),
    String(String),
}

/// Options by name.
pub type Parameters = BTreeMap<String, Parameter>;

/// The options of a gRPC request.
///
/// # Errors
/// [`Error::Invalid`] for too many, for one that is too long, and for one that has no value.
pub fn from_grpc(parameters: HashMap<String, InferParameter>) -> Result<Parameters, Error> {
    if parameters.len() > COUNT {
        return Err(Error::invalid(too_many(parameters.len())));
    }
    let one = |(name, parameter): (String, InferParameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int64(value),
            Some(ParameterChoice::Uint64Param(value)) => Parameter::Uint64(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::String(value),
            None => {
                return Err(Error::invalid(format!(
                    "parameter `{}` has no value of a known type",
                    shown(&name)
                )));
            }
        };
        check_sizes(&name, &value).map_err(Error::Invalid)?;
        Ok((name, value))
    };
    parameters.into_iter().map(one).collect()
}

/// Reads the options of a JSON request.
///
/// # Errors
/// As [`from_grpc`]; what is neither boolean, number nor text is an error that names it.
pub fn from_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
    deserializer.deserialize_map(Object)
}

/// A parameter that is a boolean; `None` where it is not given.
///
/// # Errors
/// [`Error::Invalid`] for another type.
pub fn boolean(parameters: &Parameters, name: &str) -> Result<Option<bool>, Error> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Parameter::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(other.is_not(name, "a boolean")),
    }
}

/// A parameter that is a whole number and not negative; `None` where it is not given.
///
/// # Errors
/// [`Error::Invalid`] for a negative number or another type.
pub fn unsigned(parameters: &Parameters, name: &str) -> Result<Option<u64>, Error> {
    let expected = "a whole number that is not negative";
    match parameters.get(name) {
        None => Ok(None),
        Some(Parameter::Uint64(value)) => Ok(Some(*value)),
        Some(other @ Parameter::Int64(value)) => {
            u64::try_from(*value).map(Some).map_err(|_| other.is_not(name, expected))
        }
        Some(other) => Err(other.is_not(name, expected)),
    }
}

/// A parameter that is a text; `None` where it is not given.
///
/// # Errors
/// [`Error::Invalid`] for another type.
pub fn text<'a>(parameters: &'a Parameters, name: &str) -> Result<Option<&'a str>, Error> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Parameter::String(value)) => Ok(Some(value)),
        Some(other) => Err(other.is_not(name, "a text")),
    }
}

/// How long a request may take by what it says itself; 0 is "no timeout".
///
/// # Errors
/// [`Error::Invalid`] for what is no number of microseconds.
pub fn timeout(parameters: &Parameters) -> Result<Option<Duration>, Error> {
    Ok(unsigned(parameters, "timeout")?.filter(|&us| us > 0).map(Duration::from_micros))
}

impl Parameter {
    /// The error for a parameter of the wrong type or range.
    pub(crate) fn is_not(&self, name: &str, expected: &str) -> Error {
        Error::invalid(format!("parameter `{}`: found {self}, expected {expected}", shown(name)))
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int64(value) => write!(f, "{value}"),
            Self::Uint64(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(value) => write!(f, "the text `{}`", shown(value)),
        }
    }
}

fn too_many(found: usize) -> String {
    format!("the request has {found} parameters; at most {COUNT} are accepted")
}

fn check_sizes(name: &str, value: &Parameter) -> Result<(), String> {
    let text = if let Parameter::String(text) = value { text.len() } else { 0 };
    let found = name.len().max(text);
    if found > TEXT_BYTES {
        return Err(format!(
            "parameter `{}` has {found} bytes; at most {TEXT_BYTES} are accepted",
            shown(name)
        ));
    }
    Ok(())
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::new();
        while let Some(name) = entries.next_key::<String>()? {
            if parameters.len() == COUNT && !parameters.contains_key(&name) {
                return Err(A::Error::custom(too_many(COUNT + 1)));
            }
            let value = match entries.next_value::<Value>()? {
                Value::Known(value) => value,
                Value::Other(found) => {
                    let expected = "a boolean, a number or a text";
                    let name = shown(&name);
                    return Err(A::Error::custom(format!(
                        "parameter `{name}`: found {found}, expected {expected}"
                    )));
                }
            };
            check_sizes(&name, &value).map_err(A::Error::custom)?;
            parameters.insert(name, value);
        }
        Ok(parameters)
    }
}

/// A value of a JSON object, of whatever type, so that the error for a wrong one can say whose it is.
enum Value {
    Known(Parameter),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean, a number or a text")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Known(Parameter::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Known(Parameter::Int64(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Known(i64::try_from(value).map_or(Parameter::Uint64(value), Parameter::Int64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // `3.0` is a whole number, too; up to 2^53 every whole f64 is that integer.
        let exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        Ok(Value::Known(if exact { Parameter::Int64(value as i64) } else { Parameter::Double(value) }))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Known(Parameter::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    // Their insides are passed over without being kept.
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Parameters, String> {
        from_json(&mut serde_json::Deserializer::from_str(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_is_kept_as_it_came() {
        let text = r#"{"a":true,"b":-3,"c":18446744073709551615,"d":0.5,"e":"x","f":7.0}"#;
        let found = json(text).unwrap();
        let expected = [
            ("a", Parameter::Bool(true)),
            ("b", Parameter::Int64(-3)),
            ("c", Parameter::Uint64(u64::MAX)),
            ("d", Parameter::Double(0.5)),
            ("e", Parameter::String("x".to_owned())),
            ("f", Parameter::Int64(7)),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(unsigned(&found, "f").unwrap(), Some(7));
        assert_eq!(unsigned(&found, "c").unwrap(), Some(u64::MAX));
        assert_eq!(unsigned(&found, "none").unwrap(), None);
        let error = |result: Result<Option<u64>, Error>| result.unwrap_err().to_string();
        let whole = "expected a whole number that is not negative";
        assert_eq!(error(unsigned(&found, "b")), format!("parameter `b`: found -3, {whole}"));
        assert_eq!(error(unsigned(&found, "e")), format!("parameter `e`: found the text `x`, {whole}"));
        assert_eq!(
            boolean(&found, "d").unwrap_err().to_string(),
            "parameter `d`: found 0.5, expected a boolean"
        );
    }

    #[test]
    fn what_is_no_parameter_is_named() {
        for (value, found) in [("null", "null"), ("[1,[2]]", "an array"), (r#"{"y":{}}"#, "an object")] {
            let error = json(&format!(r#"{{"x":{value}}}"#)).unwrap_err();
            let expected = format!("parameter `x`: found {found}, expected a boolean, a number or a text");
            assert!(error.starts_with(&expected), "{error}");
        }
        let none = HashMap::from([("x".to_owned(), InferParameter::default())]);
        assert_eq!(from_grpc(none).unwrap_err().to_string(), "parameter `x` has no value of a known type");
    }

    #[test]
    fn many_and_long_ones_are_refused() {
        let many = |count: usize| (0..count).map(|at| format!("\"{at}\":1")).collect::<Vec<_>>().join(",");
        assert_eq!(json(&format!("{{{}}}", many(COUNT))).unwrap().len(), COUNT);
        let error = json(&format!("{{{}}}", many(COUNT + 1))).unwrap_err();
        assert!(error.contains("has 65 parameters; at most 64"), "{error}");
        let long = "y".repeat(TEXT_BYTES + 1);
        let error = json(&format!(r#"{{"x":"{long}"}}"#)).unwrap_err();
        assert!(error.contains("parameter `x` has 4097 bytes; at most 4096"), "{error}");
    }
}
