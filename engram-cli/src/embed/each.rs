//! Each of many texts, whatever one of them does.

use super::{EmbedError, Embedder, Kind, PROBE};

/// Bytes below which a text is not refused for its length.
const SHORT_BYTES: usize = 512;

/// The outcome for one text.
pub(crate) type Outcome = Result<Vec<f32>, EmbedError>;

impl Embedder {
    /// The vectors of texts that are stored, in their order. A text that the model does not take leaves the others alone,
    /// and is tried by its beginning. Once the endpoint as a whole fails, it is not asked for the rest.
    pub(crate) fn embed_each(&self, texts: &[&str]) -> Vec<Outcome> {
        let mut each = Each { embedder: self, takes_any: None };
        let mut outcomes = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(self.batch) {
            let more = each.of_chunk_after(outcomes.last(), chunk);
            outcomes.extend(more);
        }
        outcomes
    }
}

struct Each<'a> {
    embedder: &'a Embedder,
    /// Whether the model takes any text at all, once that was asked.
    takes_any: Option<Result<(), EmbedError>>,
}

impl Each<'_> {
    fn of_chunk_after(&mut self, before: Option<&Outcome>, texts: &[&str]) -> Vec<Outcome> {
        match before {
            Some(Err(error)) if error.kind != Kind::Refused => vec![Err(error.clone()); texts.len()],
            _ => self.of(texts),
        }
    }

    fn of(&mut self, texts: &[&str]) -> Vec<Outcome> {
        let error = match self.embedder.embed_documents(texts) {
            Ok(vectors) => return vectors.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        let of_all = match error.kind {
            // It may be one of them; it may also be that no text is taken, which is worth one question more.
            Kind::Refused | Kind::Broken => self.takes_any(&error).err(),
            Kind::Transient { .. } | Kind::Misconfigured => Some(error.clone()),
        };
        match (of_all, texts) {
            (Some(of_all), texts) => vec![Err(of_all); texts.len()],
            (None, [text]) => vec![self.by_its_beginning(text, error)],
            (None, texts) => {
                let (left, right) = texts.split_at(texts.len() / 2);
                let mut outcomes = self.of(left);
                let more = self.of_chunk_after(outcomes.last(), right);
                outcomes.extend(more);
                outcomes
            }
        }
    }

    /// Whether the model takes any text, after it did not take one.
    fn takes_any(&mut self, refusal: &EmbedError) -> Result<(), EmbedError> {
        let ask = || match self.embedder.embed_documents(&[PROBE]) {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind {
                Kind::Refused => refusal.clone().with_kind(Kind::Misconfigured),
                Kind::Broken => refusal.clone().with_kind(Kind::Transient { retry_after: None }),
                Kind::Transient { .. } | Kind::Misconfigured => error,
            }),
        };
        self.takes_any.get_or_insert_with(ask).clone()
    }

    /// A long text may be too long for the model: its first half, and so on, may not be.
    fn by_its_beginning(&self, text: &str, refusal: EmbedError) -> Outcome {
        let mut beginning = text;
        while beginning.len() > SHORT_BYTES {
            let end = beginning.floor_char_boundary(beginning.len() / 2);
            beginning = &beginning[..end];
            match self.embedder.embed_documents(&[beginning]) {
                Ok(vectors) => return vectors.into_iter().next().ok_or(refusal),
                Err(error) => match error.kind {
                    Kind::Refused | Kind::Broken => {}
                    Kind::Transient { .. } | Kind::Misconfigured => return Err(error),
                },
            }
        }
        Err(refusal.with_kind(Kind::Refused))
    }
}

#[cfg(test)]
mod tests;
