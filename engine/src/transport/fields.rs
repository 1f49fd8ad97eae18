//! JSON objects that come from outside, field by field, so that an error can name the field: commands and
//! batch lines.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Limits;
use crate::event::{Data, Event, EventError};
use crate::topic::Topic;

/// More fields than any object that is understood has.
const FIELDS_MAX: usize = 16;

/// Takes what RFC 4648 §4 writes, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why an object is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldError {
    /// None if there is no object at all.
    pub field: Option<String>,
    pub detail: String,
    pub status: u16,
}

impl FieldError {
    /// A 400 for `field`.
    pub(super) fn new(field: &str, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), detail: detail.into(), status: 400 }
    }

    fn too_large(field: &str, bytes: usize, bytes_max: usize) -> Self {
        let detail = format!("`{field}` has {bytes} bytes; at most {bytes_max} are allowed");
        Self { field: Some(field.into()), detail, status: 413 }
    }

    /// The same, of an object that stands in the field `outer` of another.
    pub(super) fn inside(mut self, outer: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{outer}.{field}"),
            None => outer.into(),
        });
        self
    }
}

/// An object: its fields in order, their values as they are written.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads one JSON text that is an object.
    ///
    /// # Errors
    /// [`FieldError`] without a field, if it is none.
    pub(super) fn parse(json: &'a str) -> Result<Self, FieldError> {
        serde_json::from_str(json).map_err(|error| FieldError {
            field: None,
            detail: format!("is no JSON object: {error}"),
            status: 400,
        })
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// [`FieldError`] if it stands twice.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'a RawValue>, FieldError> {
        let mut values = self.0.iter().filter(|(field, _)| field == name).map(|(_, value)| *value);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(FieldError::new(name, format!("`{name}` stands twice"))),
        }
    }

    /// The value of `name`, at most `bytes_max` long as it is written.
    pub(super) fn get_short(&self, name: &str, bytes_max: usize) -> Result<Option<&'a RawValue>, FieldError> {
        match self.get(name)? {
            Some(value) if value.get().len() > bytes_max => {
                Err(FieldError::too_large(name, value.get().len(), bytes_max))
            }
            value => Ok(value),
        }
    }

    /// The string that `name` is.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>, FieldError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        serde_json::from_str(value.get())
            .map(Some)
            .map_err(|_| FieldError::new(name, format!("`{name}` is no string")))
    }

    /// Refuses every field that is not one of `allowed`.
    pub(super) fn allow(&self, allowed: &[&str]) -> Result<(), FieldError> {
        match self.0.iter().find(|(field, _)| !allowed.contains(&field.as_str())) {
            None => Ok(()),
            Some((field, _)) => {
                // It is told back, whatever the peer has put there.
                let field: String = field.chars().take(64).collect();
                Err(FieldError::new(&field, format!("`{field}` is not known here")))
            }
        }
    }

    /// Those of `names` that are there.
    pub(super) fn present<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let is_there = |name: &&&str| self.0.iter().any(|(field, _)| field == **name);
        names.iter().filter(is_there).copied().collect()
    }

    /// The number of fields.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The event that the object is: `topic`, `name`, and `data` or `base64`.
    ///
    /// # Errors
    /// [`FieldError`] names the field; 413 for data over `limits.event_bytes`.
    pub(super) fn event(&self, limits: &Limits) -> Result<Event, FieldError> {
        self.allow(&["topic", "name", "data", "base64"])?;
        let topic = self.string("topic")?.ok_or_else(|| FieldError::new("topic", "`topic` is missing"))?;
        let topic = Topic::new(&topic).map_err(|error| FieldError::new("topic", error.to_string()))?;
        let event = Event::new(topic, self.data(limits)?);
        match self.string("name")? {
            None => Ok(event),
            Some(name) => {
                event.named(&name).map_err(|error: EventError| FieldError::new("name", error.to_string()))
            }
        }
    }

    fn data(&self, limits: &Limits) -> Result<Data, FieldError> {
        let (field, data) = match (self.get("data")?, self.get("base64")?) {
            (Some(_), Some(_)) => {
                return Err(FieldError::new("base64", "`data` and `base64` exclude each other"));
            }
            (None, None) => return Err(FieldError::new("data", "`data` or `base64` is missing")),
            (Some(value), None) if value.get().starts_with('"') => {
                let text: String = serde_json::from_str(value.get())
                    .map_err(|error| FieldError::new("data", format!("`data`: {error}")))?;
                ("data", Data::Text(text.into()))
            }
            (Some(value), None) => ("data", Data::Json(value.get().into())),
            (None, Some(_)) => {
                let text = self.string("base64")?.unwrap_or_default();
                let bytes = BASE64
                    .decode(text)
                    .map_err(|error| FieldError::new("base64", format!("`base64`: {error}")))?;
                ("base64", Data::Binary(bytes.into()))
            }
        };
        match data.bytes().len() {
            bytes if bytes > limits.event_bytes => {
                Err(FieldError::too_large(field, bytes, limits.event_bytes))
            }
            _ => Ok(data),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(M::Error::custom("it has too many fields"));
                    }
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
