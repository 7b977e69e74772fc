//! A text as numbers: `WordPiece`, the longest known beginning of each word first.

use std::{collections::HashMap, fs, path::Path};

use serde::Deserialize;

use super::{
    Unusable,
    files::{of_file, read_json},
    normalizer::Normalizer,
};

/// Letters of a word after which it is taken for none.
const WORD_CHARS_MAX: usize = 100;

/// Turns texts into tokens.
pub(super) struct Tokenizer {
    normalizer: Normalizer,
    vocabulary: HashMap<String, u32>,
    /// What is written before a part that does not begin a word.
    continuing: String,
    unknown: u32,
    first: u32,
    last: u32,
}

/// `tokenizer.json`.
#[derive(Deserialize)]
struct TokenizerFile {
    normalizer: Option<Normalizer>,
    model: ModelOfTokens,
}

#[derive(Deserialize)]
struct ModelOfTokens {
    r#type: Option<String>,
    vocab: HashMap<String, u32>,
    continuing_subword_prefix: Option<String>,
}

/// `tokenizer_config.json`.
#[derive(Deserialize)]
struct TokenizerSettings {
    do_lower_case: Option<bool>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or else `vocab.txt`.
    pub(super) fn read(directory: &Path) -> Result<Self, Unusable> {
        let file: Option<TokenizerFile> = read_json(&directory.join("tokenizer.json"))?;
        if let Some(TokenizerFile { normalizer, model }) = file {
            if model.r#type.as_deref().is_some_and(|name| name != "WordPiece") {
                return Err(Unusable(format!("expected tokens by WordPiece, got {:?}", model.r#type)));
            }
            let continuing = model.continuing_subword_prefix.unwrap_or_else(|| "##".to_owned());
            return Self::new(normalizer.unwrap_or_default(), model.vocab, continuing);
        }
        let file = directory.join("vocab.txt");
        let text = fs::read_to_string(&file).map_err(|error| of_file(&file, &error))?;
        let settings: Option<TokenizerSettings> = read_json(&directory.join("tokenizer_config.json"))?;
        let lowercase = settings.and_then(|settings| settings.do_lower_case).unwrap_or(true);
        let vocabulary = (0..).zip(text.lines()).map(|(number, token)| (token.to_owned(), number)).collect();
        Self::new(Normalizer::default().with_lowercase(lowercase), vocabulary, "##".to_owned())
    }

    fn new(
        normalizer: Normalizer,
        vocabulary: HashMap<String, u32>,
        continuing: String,
    ) -> Result<Self, Unusable> {
        let special = |token: &str| {
            let number = vocabulary.get(token).copied();
            number.ok_or_else(|| Unusable(format!("expected a token {token}, got none")))
        };
        let (unknown, first, last) = (special("[UNK]")?, special("[CLS]")?, special("[SEP]")?);
        Ok(Self { normalizer, vocabulary, continuing, unknown, first, last })
    }

    /// One more than the greatest token.
    pub(super) fn tokens(&self) -> usize {
        self.vocabulary.values().max().map_or(0, |&greatest| greatest as usize + 1)
    }

    /// The tokens of a text between the two special ones, `tokens_max` in all.
    pub(super) fn tokens_of(&self, text: &str, tokens_max: usize) -> Vec<u32> {
        let mut tokens = vec![self.first];
        for word in self.normalizer.words(text) {
            if tokens.len() >= tokens_max {
                break;
            }
            self.add_word(&word, &mut tokens);
        }
        tokens.truncate(tokens_max.saturating_sub(1).max(1));
        tokens.push(self.last);
        tokens
    }

    /// Adds the parts of a word, or that it is unknown.
    fn add_word(&self, word: &str, tokens: &mut Vec<u32>) {
        let before = tokens.len();
        if word.chars().nth(WORD_CHARS_MAX).is_some() {
            tokens.push(self.unknown);
            return;
        }
        let (mut rest, mut part) = (word, String::new());
        while !rest.is_empty() {
            let ends = rest.char_indices().map(|(start, c)| start + c.len_utf8()).rev();
            let longest = ends.into_iter().find_map(|end| {
                part.clear();
                if rest.len() < word.len() {
                    part.push_str(&self.continuing);
                }
                part.push_str(&rest[..end]);
                self.vocabulary.get(&part).map(|&token| (token, end))
            });
            let Some((token, end)) = longest else {
                tokens.truncate(before);
                tokens.push(self.unknown);
                return;
            };
            tokens.push(token);
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let words = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "a", "##a", "affable", "!"];
        let vocabulary = (0..).zip(words).map(|(number, word)| (word.to_owned(), number)).collect();
        Tokenizer::new(Normalizer::default(), vocabulary, "##".to_owned()).ok().unwrap()
    }

    #[test]
    fn the_longest_known_part_comes_first() {
        let tokens = |text: &str| tokenizer().tokens_of(text, 512);
        assert_eq!(tokens("Unaffable affable!"), [1, 3, 4, 5, 8, 9, 2]);
        assert_eq!(tokens("unknown aaa"), [1, 0, 6, 7, 7, 2]);
        assert_eq!(tokens(""), [1, 2]);
        assert_eq!(tokens(&"a".repeat(100)).len(), 102);
        assert_eq!(tokens(&"a".repeat(101)), [1, 0, 2]);
    }

    #[test]
    fn a_long_text_is_cut_before_the_last_token() {
        assert_eq!(tokenizer().tokens_of("a a a a a a", 4), [1, 6, 6, 2]);
        assert_eq!(tokenizer().tokens_of("unaffable", 3), [1, 3, 2]);
        assert_eq!(tokenizer().tokens_of("a a", 2), [1, 2]);
    }

    #[test]
    fn a_vocabulary_without_its_special_tokens_is_none() {
        let vocabulary = HashMap::from([("a".to_owned(), 0)]);
        let error = Tokenizer::new(Normalizer::default(), vocabulary, "##".to_owned()).err().unwrap();
        assert_eq!(error.0, "expected a token [UNK], got none");
    }
}
