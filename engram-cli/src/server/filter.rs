//! Filters as JSON: `{"user": {"eq": "ada"}, "when": {"gte": "2026-01-01T00:00:00Z"}, "OR": [{…}, {…}]}`.
//!
//! All keys of an object must hold. `id`, `when` and `confidence` are the memory's own, `AND`, `OR` and `NOT` join, and
//! any other key is one of the metadata, unless it is the name of something else that a memory has; `metadata.KEY` is,
//! whatever the key.

use std::borrow::Cow;

use engram_core::{Condition, Field, Filter, MetaValue, Test};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use super::{
    dto::{confidence, time},
    json::UniqueJson,
    problem::{Code, Problem},
};

/// What a test is called.
const TESTS: &str = "eq, ne, gt, gte, lt, lte, in or contains";

/// What a memory has, too, and no filter looks at. Taken for keys of the metadata, which nobody has, they would make `NOT`
/// and `ne` accept everything.
const NO_FIELDS: [&str; 6] = ["content", "embedding", "expires_at", "has_embedding", "lsn", "metadata"];

/// A filter as it came.
#[derive(Debug, Default)]
pub(crate) struct FilterField(Map<String, Value>);

impl JsonSchema for FilterField {
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Conditions on id, when, confidence and keys of the metadata, all of which must hold; AND, OR and \
                            NOT join lists of such objects.",
            "examples": [{"user": "ada", "when": {"gte": "2026-01-01T00:00:00Z"}}, {"OR": [{"a": 1}, {"b": {"gt": 2}}]}],
        })
    }
}

impl<'de> Deserialize<'de> for FilterField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match UniqueJson::deserialize(deserializer)?.0 {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(D::Error::custom(format_args!("expected an object of conditions, got {other}"))),
        }
    }
}

impl FilterField {
    /// Of a parameter in the query string.
    pub(crate) fn parse(json: &str) -> Result<Self, Problem> {
        serde_json::from_str(json).map_err(|e| {
            let detail = format!("filter: expected JSON such as {{\"user\": \"ada\"}}: {e}");
            Problem::new(Code::InvalidFilter, detail)
        })
    }

    pub(crate) fn into_filter(self) -> Result<Filter, Problem> {
        let condition = (!self.0.is_empty()).then(|| object("filter", self.0)).transpose()?;
        Ok(Filter { condition, ..Filter::default() })
    }
}

/// All of the conditions of an object. How deep they may lie is the store's to say; JSON itself is limited, too.
fn object(path: &str, fields: Map<String, Value>) -> Result<Condition, Problem> {
    let conditions = fields.into_iter().map(|(key, value)| {
        let path = format!("{path}.{key}");
        match key.as_str() {
            "AND" => Ok(Condition::And(list(&path, value)?)),
            "OR" => Ok(Condition::Or(list(&path, value)?)),
            // Of a list, none may hold.
            "NOT" => Ok(Condition::Not(Box::new(Condition::Or(list(&path, value)?)))),
            _ => field(&path, &key, value),
        }
    });
    let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::And(conditions) })
}

/// A list of conditions; one alone needs no list.
fn list(path: &str, value: Value) -> Result<Vec<Condition>, Problem> {
    let one = |path: &str, value| match value {
        Value::Object(fields) => object(path, fields),
        other => Err(wrong(path, "an object of conditions", &other)),
    };
    match value {
        Value::Array(list) => {
            list.into_iter().enumerate().map(|(i, value)| one(&format!("{path}[{i}]"), value)).collect()
        }
        value @ Value::Object(_) => Ok(vec![one(path, value)?]),
        other => Err(wrong(path, "a list of objects of conditions", &other)),
    }
}

/// The tests of a field, all of which must pass. A value alone is one that it must equal.
fn field(path: &str, key: &str, value: Value) -> Result<Condition, Problem> {
    let field = match key {
        "id" => Field::Id,
        "when" => Field::When,
        "confidence" => Field::Confidence,
        key if NO_FIELDS.contains(&key) => {
            let detail = format!(
                "{path}: expected id, when, confidence or a key of the metadata, got {key:?}; a key of the metadata with \
                 this name is metadata.{key}"
            );
            return Err(Problem::new(Code::InvalidFilter, detail));
        }
        key => Field::Metadata(key.strip_prefix("metadata.").unwrap_or(key).to_owned()),
    };
    let Value::Object(tests) = value else {
        return Ok(Condition::Field(field.clone(), Test::Eq(wanted(path, &field, &value)?)));
    };
    if tests.is_empty() {
        return Err(wrong(path, &format!("a test such as {{\"eq\": …}}: {TESTS}"), &Value::Object(tests)));
    }
    let mut passed = Vec::new();
    for (name, value) in tests {
        let path = format!("{path}.{name}");
        let test = match name.as_str() {
            "eq" => Test::Eq(wanted(&path, &field, &value)?),
            "ne" => Test::Ne(wanted(&path, &field, &value)?),
            "gt" => Test::Gt(wanted(&path, &field, &value)?),
            "gte" => Test::Gte(wanted(&path, &field, &value)?),
            "lt" => Test::Lt(wanted(&path, &field, &value)?),
            "lte" => Test::Lte(wanted(&path, &field, &value)?),
            "in" => match &value {
                Value::Array(values) => Test::In(
                    values.iter().map(|value| wanted(&path, &field, value)).collect::<Result<_, _>>()?,
                ),
                other => return Err(wrong(&path, "a list of values", other)),
            },
            "contains" => match (&field, &value) {
                (Field::When | Field::Confidence, _) => {
                    return Err(Problem::new(
                        Code::InvalidFilter,
                        format!("{path}: expected a field that is a text"),
                    ));
                }
                (_, Value::String(part)) => Test::Contains(part.clone()),
                (_, other) => return Err(wrong(&path, "a text", other)),
            },
            other => {
                let detail = format!("{path}: expected one of {TESTS}, got {other:?}");
                return Err(Problem::new(Code::InvalidFilter, detail));
            }
        };
        passed.push(Condition::Field(field.clone(), test));
    }
    Ok(if passed.len() == 1 { passed.remove(0) } else { Condition::And(passed) })
}

/// What the field is held against.
fn wanted(path: &str, field: &Field, value: &Value) -> Result<MetaValue, Problem> {
    match (field, value) {
        (Field::When, Value::String(text)) => {
            time(path, text).map(|time| MetaValue::Integer(time.timestamp_micros()))
        }
        (Field::When, other) => Err(wrong(path, "a time as RFC 3339, such as 2026-03-01T09:30:00Z", other)),
        (Field::Confidence, Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            #[expect(clippy::cast_possible_truncation, reason = "a confidence has the precision of f32")]
            confidence(number as f32)?;
            Ok(MetaValue::Number(number))
        }
        (Field::Confidence, other) => Err(wrong(path, "a number from 0 to 1", other)),
        (Field::Id, Value::String(text)) => Ok(MetaValue::Text(text.clone())),
        (Field::Id, other) => Err(wrong(path, "a text", other)),
        (Field::Metadata(_), value) => serde_json::from_value(value.clone())
            .map_err(|_| wrong(path, "a string, a number or a boolean", value)),
    }
}

fn wrong(path: &str, expected: &str, got: &Value) -> Problem {
    let mut got = got.to_string();
    if let Some((at, _)) = got.char_indices().nth(100) {
        got.truncate(at);
        got.push('…');
    }
    Problem::new(Code::InvalidFilter, format!("{path}: expected {expected}, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(json: &str) -> Result<Option<Condition>, Problem> {
        serde_json::from_str::<FilterField>(json).unwrap().into_filter().map(|filter| filter.condition)
    }

    fn meta(key: &str, test: Test) -> Condition {
        Condition::Field(Field::Metadata(key.to_owned()), test)
    }

    fn text(text: &str) -> MetaValue {
        MetaValue::Text(text.to_owned())
    }

    #[test]
    fn conditions_are_read() {
        use MetaValue::{Boolean, Integer, Number};
        for (json, expected) in [
            (r#"{"user":"ada"}"#, meta("user", Test::Eq(text("ada")))),
            (r#"{"user":{"ne":true}}"#, meta("user", Test::Ne(Boolean(true)))),
            (r#"{"metadata.when":{"in":[1,2.5]}}"#, meta("when", Test::In(vec![Integer(1), Number(2.5)]))),
            (r#"{"user":{"contains":"a"}}"#, meta("user", Test::Contains("a".to_owned()))),
            (r#"{"id":{"gt":"a"}}"#, Condition::Field(Field::Id, Test::Gt(text("a")))),
            (r#"{"confidence":{"gte":0.5}}"#, Condition::Field(Field::Confidence, Test::Gte(Number(0.5)))),
            (
                r#"{"when":{"lt":"1970-01-01T00:00:01Z"}}"#,
                Condition::Field(Field::When, Test::Lt(Integer(1_000_000))),
            ),
            (
                r#"{"a":{"gt":1,"lte":2}}"#,
                Condition::And(vec![meta("a", Test::Gt(Integer(1))), meta("a", Test::Lte(Integer(2)))]),
            ),
            (
                r#"{"OR":[{"a":1},{"NOT":{"b":2}}]}"#,
                Condition::Or(vec![
                    meta("a", Test::Eq(Integer(1))),
                    Condition::Not(Box::new(Condition::Or(vec![meta("b", Test::Eq(Integer(2)))]))),
                ]),
            ),
            (r#"{"AND":[]}"#, Condition::And(vec![])),
        ] {
            assert_eq!(condition(json).unwrap().unwrap(), expected, "{json}");
        }
        assert_eq!(condition("{}").unwrap(), None);
    }

    #[test]
    fn wrong_ones_are_named_by_their_path() {
        for (json, code, expected) in [
            (r#"{"user":{"like":"a"}}"#, Code::InvalidFilter, "filter.user.like: expected one of eq, ne"),
            (r#"{"user":{}}"#, Code::InvalidFilter, "filter.user: expected a test"),
            (
                r#"{"user":null}"#,
                Code::InvalidFilter,
                "filter.user: expected a string, a number or a boolean, got null",
            ),
            (r#"{"user":{"in":"ada"}}"#, Code::InvalidFilter, "filter.user.in: expected a list"),
            (r#"{"user":{"contains":1}}"#, Code::InvalidFilter, "filter.user.contains: expected a text"),
            (r#"{"when":{"contains":"2026"}}"#, Code::InvalidFilter, "filter.when.contains"),
            (r#"{"when":{"gte":"monday"}}"#, Code::InvalidTime, "filter.when.gte"),
            (r#"{"when":{"gte":3}}"#, Code::InvalidFilter, "filter.when.gte: expected a time"),
            (r#"{"confidence":{"gte":2}}"#, Code::InvalidConfidence, "2"),
            (r#"{"NOT":{"content":{"contains":"a"}}}"#, Code::InvalidFilter, "is metadata.content"),
            (r#"{"OR":3}"#, Code::InvalidFilter, "filter.OR: expected a list"),
            (r#"{"OR":[{"a":1},3]}"#, Code::InvalidFilter, "filter.OR[1]: expected an object"),
        ] {
            let problem = condition(json).unwrap_err();
            assert_eq!(problem.code(), code, "{json}");
            assert!(problem.detail().contains(expected), "{json}: {}", problem.detail());
        }
        assert!(serde_json::from_str::<FilterField>("[]").is_err());
        // Only the last of them would count.
        for twice in [r#"{"a":{"gte":1},"a":{"lte":2}}"#, r#"{"OR":[{"a":{"gte":1,"gte":2}}]}"#] {
            let error = serde_json::from_str::<FilterField>(twice).unwrap_err().to_string();
            assert!(error.starts_with("expected each key once, got "), "{error}");
        }
    }
}
