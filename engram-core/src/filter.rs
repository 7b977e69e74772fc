//! Which memories count.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use crate::{Confidence, Memory, MetaValue, StoreError, limits};

/// Which memories count. Without conditions, all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Those that happened then or later.
    pub when_from: Option<DateTime<Utc>>,
    /// Those that happened before.
    pub when_before: Option<DateTime<Utc>>,
    /// Those that are at least so sure.
    pub confidence_min: Option<Confidence>,
    /// Those for which this holds, too.
    pub condition: Option<Condition>,
}

/// What must hold of a memory.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All of these; without any, always.
    And(Vec<Self>),
    /// One of these at least; without any, never.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// That a field passes a test.
    Field(Field, Test),
}

/// A field of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Its id, a text.
    Id,
    /// When it happened: a whole number of microseconds since 1970.
    When,
    /// How sure it is, a number.
    Confidence,
    /// A key of its metadata.
    Metadata(String),
}

/// What a field is held against. A text and a number are never equal, and neither is more than the other; whole and
/// other numbers are compared as numbers. A field that a memory does not have passes [`Ne`](Self::Ne) alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The same.
    Eq(MetaValue),
    /// Not the same, or not there.
    Ne(MetaValue),
    /// More, or later in the order of texts (by code point: dates as RFC 3339 in one zone are in order).
    Gt(MetaValue),
    /// That or the same.
    Gte(MetaValue),
    /// Less.
    Lt(MetaValue),
    /// That or the same.
    Lte(MetaValue),
    /// One of these.
    In(Vec<MetaValue>),
    /// A text with this in it, as it is written.
    Contains(String),
}

impl Filter {
    /// Whether `memory` counts.
    pub fn accepts(&self, memory: &Memory) -> bool {
        self.when_from.is_none_or(|from| memory.when >= from)
            && self.when_before.is_none_or(|before| memory.when < before)
            && self.confidence_min.is_none_or(|min| memory.confidence >= min)
            && self.condition.as_ref().is_none_or(|condition| condition.holds(memory))
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refuse = |reason| Err(StoreError::Query { reason });
        let Some(condition) = &self.condition else { return Ok(()) };
        let Size { depth, parts } = condition.size();
        if depth > limits::CONDITION_DEPTH_MAX {
            return refuse(format!(
                "expected conditions up to {} deep in each other, got {depth}",
                limits::CONDITION_DEPTH_MAX
            ));
        }
        if parts > limits::CONDITION_PARTS_MAX {
            return refuse(format!(
                "expected a filter of up to {} conditions and values, got {parts}",
                limits::CONDITION_PARTS_MAX
            ));
        }
        Ok(())
    }
}

/// How much a condition is to work through.
struct Size {
    depth: usize,
    parts: usize,
}

impl Condition {
    /// Whether it holds of `memory`.
    pub fn holds(&self, memory: &Memory) -> bool {
        match self {
            Self::And(all) => all.iter().all(|condition| condition.holds(memory)),
            Self::Or(some) => some.iter().any(|condition| condition.holds(memory)),
            Self::Not(condition) => !condition.holds(memory),
            Self::Field(field, test) => test.passes(field, memory),
        }
    }

    fn size(&self) -> Size {
        let (below, own) = match self {
            Self::And(list) | Self::Or(list) => (list.as_slice(), 1),
            Self::Not(condition) => (std::slice::from_ref(&**condition), 1),
            Self::Field(_, Test::In(values)) => (&[][..], values.len() + 1),
            Self::Field(..) => (&[][..], 1),
        };
        below.iter().map(Self::size).fold(Size { depth: 1, parts: own }, |sum, below| Size {
            depth: sum.depth.max(below.depth + 1),
            parts: sum.parts + below.parts,
        })
    }
}

impl Test {
    fn passes(&self, field: &Field, memory: &Memory) -> bool {
        let is = |wanted: &MetaValue, orders: &[Ordering]| {
            field.compare(memory, wanted).is_some_and(|order| orders.contains(&order))
        };
        match self {
            Self::Eq(value) => is(value, &[Ordering::Equal]),
            Self::Ne(value) => !is(value, &[Ordering::Equal]),
            Self::Gt(value) => is(value, &[Ordering::Greater]),
            Self::Gte(value) => is(value, &[Ordering::Greater, Ordering::Equal]),
            Self::Lt(value) => is(value, &[Ordering::Less]),
            Self::Lte(value) => is(value, &[Ordering::Less, Ordering::Equal]),
            Self::In(values) => values.iter().any(|value| is(value, &[Ordering::Equal])),
            Self::Contains(part) => field.text(memory).is_some_and(|text| text.contains(part)),
        }
    }
}

impl Field {
    /// How the field of `memory` stands to `wanted`; nothing when it is not there, or of another kind.
    fn compare(&self, memory: &Memory, wanted: &MetaValue) -> Option<Ordering> {
        match self {
            Self::When => compare(&MetaValue::Integer(memory.when.timestamp_micros()), wanted),
            // A confidence has the precision of f32: 0.9 is to equal the 0.9 that was stored.
            Self::Confidence => memory.confidence.get().partial_cmp(&single(wanted)?),
            Self::Id => match wanted {
                MetaValue::Text(wanted) => Some((*memory.id).cmp(wanted)),
                MetaValue::Integer(_) | MetaValue::Number(_) | MetaValue::Boolean(_) => None,
            },
            Self::Metadata(key) => compare(memory.metadata.get(key)?, wanted),
        }
    }

    fn text<'m>(&self, memory: &'m Memory) -> Option<&'m str> {
        match self {
            Self::Id => Some(&memory.id),
            Self::Metadata(key) => match memory.metadata.get(key)? {
                MetaValue::Text(text) => Some(text),
                MetaValue::Integer(_) | MetaValue::Number(_) | MetaValue::Boolean(_) => None,
            },
            Self::When | Self::Confidence => None,
        }
    }
}

fn compare(value: &MetaValue, wanted: &MetaValue) -> Option<Ordering> {
    match (value, wanted) {
        (MetaValue::Text(a), MetaValue::Text(b)) => Some(a.cmp(b)),
        (MetaValue::Boolean(a), MetaValue::Boolean(b)) => Some(a.cmp(b)),
        (MetaValue::Integer(a), MetaValue::Integer(b)) => Some(a.cmp(b)),
        (MetaValue::Number(a), MetaValue::Number(b)) => a.partial_cmp(b),
        (MetaValue::Integer(a), MetaValue::Number(b)) => compare_mixed(*a, *b),
        (MetaValue::Number(a), MetaValue::Integer(b)) => compare_mixed(*b, *a).map(Ordering::reverse),
        (MetaValue::Text(_) | MetaValue::Boolean(_), _) | (_, MetaValue::Text(_) | MetaValue::Boolean(_)) => {
            None
        }
    }
}

/// Exact, where `whole as f64` would round: whole numbers beyond 2^53.
#[expect(clippy::cast_possible_truncation, reason = "within the range of i64, and only the fraction goes")]
fn compare_mixed(whole: i64, number: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0; // 2^63
    if number.is_nan() {
        None
    } else if number >= BEYOND {
        Some(Ordering::Less)
    } else if number < -BEYOND {
        Some(Ordering::Greater)
    } else {
        let by_whole = whole.cmp(&(number.trunc() as i64));
        Some(by_whole.then_with(|| 0.0_f64.total_cmp(&(number.fract() + 0.0))))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the precision of what it is compared with")]
fn single(wanted: &MetaValue) -> Option<f32> {
    match wanted {
        MetaValue::Integer(whole) => Some(*whole as f32),
        MetaValue::Number(number) => Some(*number as f32),
        MetaValue::Text(_) | MetaValue::Boolean(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Lsn;

    fn memory(metadata: &[(&str, MetaValue)]) -> Memory {
        Memory {
            id: Arc::from("tea/1"),
            lsn: Lsn::FIRST,
            when: DateTime::from_timestamp_micros(1_000_000).unwrap(),
            content: "x".into(),
            confidence: Confidence::HIGH,
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            expires_at: None,
            has_embedding: false,
        }
    }

    fn text(text: &str) -> MetaValue {
        MetaValue::Text(text.to_owned())
    }

    #[test]
    fn fields_are_held_against_values_of_their_kind() {
        use MetaValue::{Boolean, Integer, Number};
        let memory = memory(&[
            ("user", text("ada")),
            ("stars", Integer(3)),
            ("ratio", Number(0.5)),
            ("big", Integer(9_007_199_254_740_993)),
            ("done", Boolean(true)),
        ]);
        let meta = |key: &str| Field::Metadata(key.to_owned());
        for (field, test, passes) in [
            (meta("user"), Test::Eq(text("ada")), true),
            (meta("user"), Test::Eq(text("Ada")), false),
            (meta("user"), Test::Gt(text("aaa")), true),
            (meta("user"), Test::Contains("da".to_owned()), true),
            (meta("user"), Test::Contains("DA".to_owned()), false),
            (meta("user"), Test::In(vec![text("grace"), text("ada")]), true),
            (meta("user"), Test::In(vec![]), false),
            (meta("user"), Test::Eq(Integer(3)), false),
            (meta("user"), Test::Ne(Integer(3)), true),
            (meta("nobody"), Test::Ne(text("ada")), true),
            (meta("nobody"), Test::Eq(text("ada")), false),
            (meta("nobody"), Test::Lt(text("ada")), false),
            (meta("stars"), Test::Gte(Integer(3)), true),
            (meta("stars"), Test::Gte(Number(2.5)), true),
            (meta("stars"), Test::Lt(Number(3.5)), true),
            (meta("stars"), Test::Eq(Number(3.0)), true),
            (meta("stars"), Test::Lte(Number(-3.5)), false),
            (meta("stars"), Test::Gt(text("2")), false),
            (meta("stars"), Test::Contains("3".to_owned()), false),
            (meta("ratio"), Test::Lt(Integer(1)), true),
            (meta("ratio"), Test::Gt(Integer(0)), true),
            (meta("big"), Test::Eq(Number(9_007_199_254_740_992.0)), false),
            (meta("big"), Test::Gt(Number(9_007_199_254_740_992.0)), true),
            (meta("big"), Test::Lt(Number(1e300)), true),
            (meta("done"), Test::Eq(Boolean(true)), true),
            (meta("done"), Test::Eq(text("true")), false),
            (Field::Confidence, Test::Eq(Number(0.9)), true),
            (Field::Confidence, Test::Gte(Number(0.9)), true),
            (Field::Confidence, Test::Gt(Number(0.9)), false),
            (Field::When, Test::Eq(Integer(1_000_000)), true),
            (Field::When, Test::Lt(Integer(1_000_000)), false),
            (Field::Id, Test::Contains("tea".to_owned()), true),
            (Field::Id, Test::Eq(text("tea/1")), true),
        ] {
            let condition = Condition::Field(field, test);
            assert_eq!(condition.holds(&memory), passes, "{condition:?}");
            assert_eq!(Condition::Not(Box::new(condition.clone())).holds(&memory), !passes, "{condition:?}");
        }
    }

    #[test]
    fn conditions_are_joined() {
        let memory = memory(&[]);
        let [yes, no] = [Condition::And(vec![]), Condition::Or(vec![])];
        assert!(yes.holds(&memory) && !no.holds(&memory));
        assert!(Condition::Or(vec![no.clone(), yes.clone()]).holds(&memory));
        assert!(!Condition::And(vec![yes.clone(), no]).holds(&memory));
        let accepts = |condition| Filter { condition: Some(condition), ..Filter::default() }.accepts(&memory);
        assert!(accepts(yes.clone()) && !accepts(Condition::Not(Box::new(yes))));
    }

    #[test]
    fn a_filter_has_limits() {
        let check = |condition| Filter { condition: Some(condition), ..Filter::default() }.check();
        let mut deep = Condition::And(vec![]);
        for _ in 1..limits::CONDITION_DEPTH_MAX {
            deep = Condition::Not(Box::new(deep));
        }
        check(deep.clone()).unwrap();
        assert!(check(Condition::Not(Box::new(deep))).unwrap_err().to_string().contains("deep"));
        let values = |n| Condition::Field(Field::Id, Test::In(vec![MetaValue::Integer(0); n]));
        check(values(limits::CONDITION_PARTS_MAX - 1)).unwrap();
        assert!(check(values(limits::CONDITION_PARTS_MAX)).unwrap_err().to_string().contains("up to"));
    }
}
