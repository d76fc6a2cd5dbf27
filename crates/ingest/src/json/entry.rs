//! The JSON document, staged as it is read.
//!
//! Every value is first taken as whatever it is, and judged after: a type that is wrong is the fault of its entry, not of the document.
//! Keys that are not known are skipped, as phase 0 did, so that clients may send more than is read.

use std::borrow::Cow;
use std::fmt;

use model::{METRIC_NAME, Sample};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::args::Window;
use crate::outcome::{Outcome, Reason, clip};
use crate::staging::Staging;

/// Where the entries of a document go.
pub(super) struct Document<'s> {
    pub(super) staging: &'s mut Staging,
    pub(super) outcome: &'s mut Outcome,
    pub(super) window: Window,
    pub(super) now_ms: i64,
}

/// One sample as it stands in the document.
#[derive(Default)]
struct Entry<'de> {
    name: Option<Any<'de>>,
    value: Option<Any<'de>>,
    timestamp: Option<Any<'de>>,
    labels: Option<AnyLabels<'de>>,
    not_object: bool,
}

/// Any value.
enum Any<'de> {
    Text(Cow<'de, str>),
    Integer(i64),
    Number(f64),
    Other(&'static str),
}

/// Any value where labels are expected.
enum AnyLabels<'de> {
    Pairs(Vec<(Cow<'de, str>, Any<'de>)>),
    Other,
}

impl<'s> Document<'s> {
    /// Reads the document. Syntax is the only error; everything else is told in the outcome.
    pub(super) fn read<'de, D: Deserializer<'de>>(self, document: D) -> Result<(), D::Error> {
        document.deserialize_any(self)
    }

    fn stage(&mut self, index: usize, entry: Entry<'_>) {
        if let Err((reason, text)) = self.take(entry) {
            self.outcome.refuse(index, reason, 1, || text);
        }
    }

    fn take(&mut self, entry: Entry<'_>) -> Result<(), (Reason, String)> {
        let syntax = |text: &str| (Reason::Syntax, text.to_owned());
        if entry.not_object {
            return Err(syntax("an entry must be an object with \"name\" and \"value\""));
        }
        let name = match &entry.name {
            Some(Any::Text(name)) if !name.is_empty() => name.as_ref(),
            Some(Any::Text(_)) => return Err(syntax("name is empty")),
            Some(other) => return Err((Reason::Syntax, format!("name must be a string, not {}", other.what()))),
            None => return Err(syntax("name is missing")),
        };
        let v = value(entry.value.as_ref())?;
        let t = match &entry.timestamp {
            None | Some(Any::Other("null")) => self.now_ms,
            Some(timestamp) => self.time(timestamp)?,
        };
        let owned = match &entry.labels {
            None => &[][..],
            Some(AnyLabels::Pairs(pairs)) => pairs,
            Some(AnyLabels::Other) => return Err(syntax("labels must be an object of strings")),
        };
        let mut pairs = Vec::with_capacity(owned.len() + 1);
        pairs.push((METRIC_NAME, name));
        for (label, value) in owned {
            let Any::Text(value) = value else {
                let text = format!("label {:?} must be a string, not {}", clip(label), value.what());
                return Err((Reason::Labels, text));
            };
            if label == METRIC_NAME {
                return Err((Reason::Labels, "label \"__name__\" is not allowed; use \"name\"".to_owned()));
            }
            pairs.push((label.as_ref(), value.as_ref()));
        }
        self.staging.push(&mut pairs, &[Sample { t, v }]).map_err(|refused| (Reason::Labels, refused.to_string()))?;
        self.outcome.samples += 1;
        Ok(())
    }

    fn time(&self, timestamp: &Any<'_>) -> Result<i64, (Reason, String)> {
        let t = match timestamp {
            Any::Integer(t) => *t,
            // 2^53: up to there a float holds every integer.
            Any::Number(t) if t.fract() == 0.0 && t.abs() <= 9_007_199_254_740_992.0 => *t as i64,
            other => {
                let text = format!("timestamp must be an integer, Unix milliseconds, not {}", other.what());
                return Err((Reason::Syntax, text));
            }
        };
        if t < self.window.oldest_ms {
            let oldest = self.window.oldest_ms;
            return Err((Reason::TooOld, format!("timestamp {t} is older than the retention allows ({oldest})")));
        }
        if t > self.window.newest_ms {
            let newest = self.window.newest_ms;
            return Err((Reason::TooNew, format!("timestamp {t} is too far in the future (after {newest})")));
        }
        Ok(t)
    }
}

fn value(value: Option<&Any<'_>>) -> Result<f64, (Reason, String)> {
    match value {
        Some(Any::Number(v)) => Ok(*v),
        Some(Any::Integer(v)) => Ok(*v as f64),
        Some(Any::Text(text)) => match text.as_ref() {
            "NaN" => Ok(f64::NAN),
            "+Inf" | "Inf" => Ok(f64::INFINITY),
            "-Inf" => Ok(f64::NEG_INFINITY),
            _ => Err((Reason::Syntax, "value must be a number, or \"NaN\", \"+Inf\", \"-Inf\"".to_owned())),
        },
        Some(other) => Err((Reason::Syntax, format!("value must be a number, not {}", other.what()))),
        None => Err((Reason::Syntax, "value is missing".to_owned())),
    }
}

impl Any<'_> {
    fn what(&self) -> &'static str {
        match self {
            Any::Text(_) => "a string",
            Any::Integer(_) => "an integer",
            Any::Number(_) => "a number with a fraction",
            Any::Other(what) => what,
        }
    }
}

impl<'de> Entry<'de> {
    /// Reads the value of a key; says whether the key is one of an entry.
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "name" => self.name = Some(map.next_value()?),
            "value" => self.value = Some(map.next_value()?),
            "timestamp" => self.timestamp = Some(map.next_value()?),
            "labels" => self.labels = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"name\" and \"value\", or with \"metrics\"")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let (mut entry, mut single, mut batch) = (Entry::default(), false, false);
        while let Some(Key(key)) = map.next_key()? {
            if key == "metrics" {
                batch = true;
                map.next_value_seed(Entries(&mut self))?;
            } else if entry.read(&key, &mut map)? {
                single = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if single && batch {
            return Err(serde::de::Error::custom("\"metrics\" stands beside the fields of a single entry"));
        }
        if !batch {
            self.stage(0, entry);
        }
        Ok(())
    }
}

/// The value of `metrics`.
struct Entries<'a, 's>(&'a mut Document<'s>);

impl<'de> DeserializeSeed<'de> for Entries<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"metrics\" to be an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(entry) = entries.next_element::<Entry<'_>>()? {
            self.0.stage(index, entry);
            index += 1;
        }
        Ok(())
    }
}

/// Defines how a type is read from any value: the visits that differ are given, the others yield `$other` with a word for what it was.
macro_rules! any {
    ($type:ident, $other:expr, { $($visit:item)* }) => {
        impl<'de> Deserialize<'de> for $type<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Any_;
                impl<'de> Visitor<'de> for Any_ {
                    type Value = $type<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("any value")
                    }
                    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                        Ok($other("a boolean"))
                    }
                    fn visit_unit<E>(self) -> Result<Self::Value, E> {
                        Ok($other("null"))
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        Ok($other("an array"))
                    }
                    $($visit)*
                }
                deserializer.deserialize_any(Any_)
            }
        }
    };
}

any!(Any, Any::Other, {
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Any::Integer(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Any::Number(number as f64), Any::Integer))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Any::Number(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Any::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Any::Text(Cow::Borrowed(text)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Any::Other("an object"))
    }
});

any!(AnyLabels, |_| AnyLabels::Other, {
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(AnyLabels::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(AnyLabels::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(AnyLabels::Other)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(AnyLabels::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Key(name), value)) = map.next_entry()? {
            pairs.push((name, value));
        }
        Ok(AnyLabels::Pairs(pairs))
    }
});

any!(Entry, |_| Entry { not_object: true, ..Entry::default() }, {
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Entry { not_object: true, ..Entry::default() })
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Entry { not_object: true, ..Entry::default() })
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Entry { not_object: true, ..Entry::default() })
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Entry { not_object: true, ..Entry::default() })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entry = Entry::default();
        while let Some(Key(key)) = map.next_key()? {
            if !entry.read(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(entry)
    }
});

/// A key, borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
