//! What an endpoint answers: `{"data": [{"index": 0, "embedding": […] or base64}]}`.
//!
//! What came decides how it is read, never what was asked for: there are servers that answer in base64 whatever one asks,
//! and others that never do.

use std::fmt;

use engram_core::DIMENSION_MAX;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use super::error::{EmbedError, shortened};
use crate::numbers::{self, NotNumbers};

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Some servers leave it out, and answer in order.
    index: Option<usize>,
    embedding: Numbers,
}

/// An embedding as it came, with whatever is not a number in it.
struct Numbers(Vec<f32>);

/// The vectors of an answer to `texts` texts, in the order of the texts: all of one length, finite, none of them zero.
///
/// # Errors
/// `Refused` when a vector cannot be used, which is the model's affair with one of the texts; `Misconfigured` when the
/// answer is of another form.
pub(super) fn vectors(body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| {
        let body = shortened(&String::from_utf8_lossy(body));
        EmbedError::misconfigured(format!("expected embeddings in the OpenAI form, got {body:?} ({e})"))
    })?;
    let got = answer.data.len();
    if got != texts {
        return Err(EmbedError::misconfigured(format!("expected {texts} embeddings, got {got}")));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (place, item) in answer.data.into_iter().enumerate() {
        let index = item.index.unwrap_or(place);
        let Some(vector @ None) = vectors.get_mut(index) else {
            return Err(EmbedError::misconfigured(format!(
                "expected each index from 0 to {} once, got another {index}",
                texts.saturating_sub(1)
            )));
        };
        *vector = Some(item.embedding.0);
    }
    let vectors: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
    check(&vectors)?;
    Ok(vectors)
}

fn check(vectors: &[Vec<f32>]) -> Result<(), EmbedError> {
    let dimension = vectors.first().map_or(0, Vec::len);
    for vector in vectors {
        if vector.len() != dimension || dimension == 0 {
            return Err(EmbedError::misconfigured(format!(
                "expected embeddings of one length, got {dimension} numbers and {}",
                vector.len()
            )));
        }
        if let Some(number) = vector.iter().find(|number| !number.is_finite()) {
            return Err(EmbedError::refused(format!(
                "expected finite numbers, got an embedding with {number}"
            )));
        }
        if vector.iter().all(|&number| number == 0.0) {
            return Err(EmbedError::refused("expected an embedding that points somewhere, got zeros"));
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor).map(Self)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers, or base64 of little-endian f32")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Vec<f32>, A::Error> {
        let mut numbers = Vec::new();
        // JSON has no NaN: what is one comes as null.
        while let Some(number) = array.next_element::<Option<f64>>()? {
            if numbers.len() == DIMENSION_MAX {
                return Err(de::Error::custom(format_args!("more than {DIMENSION_MAX} numbers")));
            }
            #[expect(clippy::cast_possible_truncation, reason = "to the nearest f32 is what is wanted")]
            numbers.push(number.map_or(f32::NAN, |number| number as f32));
        }
        Ok(numbers)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<f32>, E> {
        let no_embedding =
            |bytes| E::custom(format_args!("base64 of {bytes} bytes, which is no embedding of f32"));
        match numbers::decode(text) {
            Ok(numbers) if numbers.len() <= DIMENSION_MAX => Ok(numbers),
            Ok(numbers) => Err(no_embedding(size_of_val(&*numbers))),
            Err(NotNumbers::Bytes(bytes)) => Err(no_embedding(bytes)),
            Err(NotNumbers::Base64(e)) => Err(E::custom(format_args!("a string that is no base64: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error::Kind, *};

    fn read(data: &str, texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        vectors(format!(r#"{{"object":"list","data":[{data}],"model":"m"}}"#).as_bytes(), texts)
    }

    #[test]
    fn the_index_says_which_text_and_the_type_which_form() {
        let encoded = numbers::encode(&[0.5, -2.0]);
        let data = format!(r#"{{"index":1,"embedding":[1,2]}},{{"index":0,"embedding":"{encoded}"}}"#);
        assert_eq!(read(&data, 2).unwrap(), [[0.5, -2.0], [1.0, 2.0]]);
        assert_eq!(read(r#"{"embedding":[1]},{"embedding":[2]}"#, 2).unwrap(), [[1.0], [2.0]]);
    }

    #[test]
    fn an_answer_of_another_form_is_somebodys_mistake() {
        for (data, texts, expected) in [
            (r#"{"index":0,"embedding":[1]}"#, 2, "expected 2 embeddings, got 1"),
            (r#"{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}"#, 2, "got another 0"),
            (r#"{"index":2,"embedding":[1]},{"index":0,"embedding":[2]}"#, 2, "got another 2"),
            (r#"{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}"#, 2, "got 1 numbers and 2"),
            (r#"{"index":0,"embedding":[]}"#, 1, "of one length"),
            (r#"{"index":0,"embedding":"????"}"#, 1, "no base64"),
            (r#"{"index":0,"embedding":"AAAA"}"#, 1, "base64 of 3 bytes"),
            (r#"{"index":0,"embedding":[[1,2]]}"#, 1, "invalid type"),
        ] {
            let error = read(data, texts).unwrap_err();
            assert_eq!(error.kind, Kind::Misconfigured);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = vectors(b"<html>\n<body>Sign in</body>", 1).unwrap_err();
        assert!(error.to_string().contains("got \"<html> <body>Sign in</body>\""), "{error}");
    }

    #[test]
    fn a_vector_that_cannot_be_used_is_about_its_text() {
        let nan = numbers::encode(&[1.0, f32::NAN]);
        for embedding in ["[1,null]", "[1,1e39]", "[0,0]", &format!("\"{nan}\"")] {
            let error = read(&format!(r#"{{"index":0,"embedding":{embedding}}}"#), 1).unwrap_err();
            assert_eq!(error.kind, Kind::Refused, "{error}");
        }
    }
}
