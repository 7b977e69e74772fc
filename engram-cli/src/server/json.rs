//! Reading JSON, and telling in plain words what is wrong with it: which field, what it should be, what came.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};
use serde_path_to_error::{Path, Segment};

use super::problem::{Code, Problem};

/// Characters of one part of a message that come from the client. The rest is cut off.
const QUOTED_CHARS_MAX: usize = 100;

/// What `serde_json` says of something after the end of the value.
pub(crate) const TRAILING: &str = "trailing characters";

/// Reads any JSON, of whose objects none has a key twice.
pub(crate) fn unique_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).map(|UniqueJson(value)| value)
}

/// Any JSON, of whose objects none has a key twice: of two, only the last would count.
pub(super) struct UniqueJson(pub(super) Value);

impl<'de> Deserialize<'de> for UniqueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
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

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(UniqueJson(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(list.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
                let fields = each_once(entries)?.into_iter().map(|(key, UniqueJson(value))| (key, value));
                Ok(fields.collect::<Map<_, _>>().into())
            }
        }

        deserializer.deserialize_any(Any).map(Self)
    }
}

/// An object none of whose keys comes twice.
#[derive(Debug)]
pub(super) struct UniqueKeys<T>(pub(super) BTreeMap<String, T>);

impl<T> Default for UniqueKeys<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for UniqueKeys<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = BTreeMap<String, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                each_once(entries)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

fn each_once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    mut entries: A,
) -> Result<BTreeMap<String, T>, A::Error> {
    let mut fields = BTreeMap::new();
    while let Some((key, value)) = entries.next_entry::<String, T>()? {
        if fields.contains_key(&key) {
            return Err(A::Error::custom(format_args!("expected each key once, got {key:?} twice")));
        }
        fields.insert(key, value);
    }
    Ok(fields)
}

/// Reads a JSON object, and tells what is no JSON from JSON that is not what is expected.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match bytes.trim_ascii_start().first() {
        None => Err(Problem::new(Code::InvalidJson, "expected a JSON object, got nothing")),
        // Otherwise its items would be taken for the fields, in the order in which this program happens to have them.
        Some(b'[') => Err(Problem::new(Code::InvalidBody, "expected a JSON object, got an array")),
        Some(_) => serde_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, &error)),
    }
}

/// Reads again what was wrong, noting where it is. To note that always would slow down all that is right.
fn explain<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Problem {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(_) => json_problem(error),
        Err(error) => problem_at(error.path(), error.inner()),
    }
}

/// What is wrong with JSON that has no fields, or none that are known.
pub(crate) fn json_problem(error: &serde_json::Error) -> Problem {
    problem_of(&[], error)
}

fn problem_at(path: &Path, error: &serde_json::Error) -> Problem {
    let mut segments: Vec<&Segment> = path.iter().collect();
    // The name that is unknown is not where it is, but what came.
    if error.to_string().starts_with("unknown field") {
        segments.pop();
    }
    problem_of(&segments, error)
}

fn problem_of(path: &[&Segment], error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    // Valid JSON all the same, which allows numbers of any size.
    let is_valid = error.is_data() || message.starts_with("number out of range");
    let place = if is_valid { shown(path) } else { String::new() };
    let message = with_place(&message, error);
    let code = match error.classify() {
        _ if is_valid => code_of(path),
        Category::Data | Category::Syntax | Category::Eof | Category::Io => Code::InvalidJson,
    };
    let problem = Problem::new(code, format!("{place}{message}"));
    match code {
        Code::InvalidEmbedding => problem
            .suggest("Send an array of numbers, or their base64: standard alphabet, little-endian f32."),
        _ => problem,
    }
}

/// The one place that knows which problem a wrong field is.
fn code_of(path: &[&Segment]) -> Code {
    let names: Vec<&str> = path
        .iter()
        .map(|segment| match segment {
            Segment::Map { key } => key.as_str(),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => "",
        })
        .collect();
    match *names {
        ["metadata", ..] => Code::InvalidMetadata,
        ["embedding", ..] => Code::InvalidEmbedding,
        ["when"] => Code::InvalidTime,
        ["confidence"] => Code::InvalidConfidence,
        ["filter", ..] => Code::InvalidFilter,
        _ => Code::InvalidBody,
    }
}

/// The path, to begin a message with: `filter.when.gte: `, `embedding[2]: `.
fn shown(path: &[&Segment]) -> String {
    let mut shown = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => shown.extend(["[", &index.to_string(), "]"]),
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                shown += if shown.is_empty() { "" } else { "." };
                shown += &shortened(name);
            }
            Segment::Unknown => {}
        }
    }
    if shown.is_empty() { shown } else { shown + ": " }
}

/// The message in plain words, with its place in the text. That is one line most often, which goes without saying.
fn with_place(message: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let message = plain(message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(message));
    match line {
        0 => message,
        1 => format!("{message}, at column {column}"),
        _ => format!("{message}, at line {line} column {column}"),
    }
}

/// What serde says, without its words for the types of this program.
pub(crate) fn plain(message: &str) -> String {
    let of_type = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    if let Some((got, expected)) = of_type.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("expected {}, got {}", wanted(expected), came(got));
    }
    if let Some((got, expected)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("expected {expected}, got {}", shortened(got));
    }
    if let Some((got, expected)) =
        message.strip_prefix("unknown field ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("unknown field {}, expected {expected}", shortened(got));
    }
    if let Some(inside) = message.strip_prefix("EOF while parsing ") {
        return format!("the JSON ends too early, within {}", inside.replace("a list", "an array"));
    }
    message
        .replace("expected ident", "expected a JSON value")
        .replace("expected value", "expected a JSON value")
        .replace("invalid digit found in string", "expected a whole number from 0 on")
        .replace("cannot parse integer from empty string", "expected a whole number from 0 on, got nothing")
        .replace("number too large to fit in target type", "expected a smaller number")
}

/// What was wanted.
fn wanted(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "usize" | "u64" => "a whole number from 0 on",
        "a sequence" => "an array",
        "a map" => "an object",
        other => other,
    }
}

/// What came instead.
fn came(got: &str) -> String {
    let quoted = |kind| got.strip_prefix(kind).map(|value| value.trim_matches('`'));
    match got {
        "map" => "an object".to_owned(),
        "sequence" => "an array".to_owned(),
        _ => match (quoted("integer ").or_else(|| quoted("floating point ")), quoted("boolean ")) {
            (Some(number), _) => format!("the number {number}"),
            (None, Some(boolean)) => boolean.to_owned(),
            (None, None) if got.starts_with("string ") => format!("the {}", shortened(got)),
            (None, None) => shortened(got),
        },
    }
}

/// A client's text may be as long as its body.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{dto::MemoryBody, recall::RecallBody},
        *,
    };

    fn refused<T: DeserializeOwned>(body: &str) -> (Code, String) {
        let problem = parse_object::<T>(body.as_bytes()).map(drop).unwrap_err();
        (problem.code(), problem.detail().to_owned())
    }

    #[test]
    fn what_is_no_json_is_told_from_json_that_is_not_expected() {
        for (body, code, expected) in [
            ("", Code::InvalidJson, "got nothing"),
            ("[null, \"a\", null, null, null, null]", Code::InvalidBody, "got an array"),
            ("{", Code::InvalidJson, "the JSON ends too early, within an object"),
            ("{\"content\":\n tea}", Code::InvalidJson, "expected a JSON value, at line 2 column 3"),
            ("{\"content\": \"a\"} {}", Code::InvalidJson, TRAILING),
            ("7", Code::InvalidBody, "expected a JSON object, got the number 7"),
            ("{}", Code::InvalidBody, "missing field `content`"),
        ] {
            let (got, detail) = refused::<MemoryBody>(body);
            assert!(got == code && detail.contains(expected), "{body}: {got:?}, {detail}");
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_what_it_should_be_and_what_came() {
        for (fields, code, expected) in [
            (
                "\"content\": 5",
                Code::InvalidBody,
                "content: expected a string, got the number 5, at column 13",
            ),
            ("\"content\": null", Code::InvalidBody, "content: expected a string, got null"),
            ("\"content\": {}", Code::InvalidBody, "content: expected a string, got an object"),
            ("\"id\": true", Code::InvalidBody, "id: expected a string, got true"),
            ("\"when\": 5", Code::InvalidTime, "when: expected a string, got the number 5"),
            ("\"contents\": 1", Code::InvalidBody, "unknown field `contents`, expected one of `id`"),
            (
                "\"confidence\": \"1\"",
                Code::InvalidConfidence,
                "confidence: expected a number, got the string \"1\"",
            ),
            ("\"confidence\": 1e400", Code::InvalidConfidence, "confidence: number out of range"),
            (
                "\"embedding\": {}",
                Code::InvalidEmbedding,
                "embedding: expected an array of numbers, or base64",
            ),
            (
                "\"embedding\": [1, [2]]",
                Code::InvalidEmbedding,
                "embedding[1]: expected a number, got an array",
            ),
            ("\"embedding\": [1e400]", Code::InvalidEmbedding, "embedding[0]: number out of range"),
            ("\"embedding\": [1, 1e39]", Code::InvalidEmbedding, "embedding: expected finite numbers"),
            ("\"metadata\": []", Code::InvalidMetadata, "metadata: expected an object, got an array"),
            (
                "\"metadata\": {\"x\": null}",
                Code::InvalidMetadata,
                "metadata.x: expected a string, a number or a boolean, got null",
            ),
        ] {
            let (got, detail) = refused::<MemoryBody>(&format!("{{{fields}}}"));
            assert!(got == code && detail.starts_with(expected), "{fields}: {got:?}, {detail}");
        }
        for (fields, code, expected) in [
            (
                "\"limit\": -1",
                Code::InvalidBody,
                "limit: expected a whole number from 0 on, got the number -1",
            ),
            (
                "\"limit\": 1.5",
                Code::InvalidBody,
                "limit: expected a whole number from 0 on, got the number 1.5",
            ),
            ("\"filter\": 1", Code::InvalidFilter, "filter: expected an object of conditions, got 1"),
            (
                "\"mode\": \"magic\"",
                Code::InvalidBody,
                "mode: expected one of `auto`, `vector`, `words`, `hybrid`, got",
            ),
        ] {
            let (got, detail) = refused::<RecallBody>(&format!("{{{fields}}}"));
            assert!(got == code && detail.starts_with(expected), "{fields}: {got:?}, {detail}");
        }
    }

    #[test]
    fn a_message_does_not_repeat_all_of_a_long_text() {
        let long = "ü".repeat(10_000);
        for body in [
            format!("{{\"confidence\": \"{long}\"}}"),
            format!("{{\"metadata\": {{\"{long}\": null}}}}"),
            format!("{{\"{long}\": 1}}"),
        ] {
            let (_, detail) = refused::<MemoryBody>(&body);
            assert!(detail.len() < 1_000 && detail.contains('…'), "{detail}");
        }
    }
}
