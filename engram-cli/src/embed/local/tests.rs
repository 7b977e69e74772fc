//! The forward pass against numbers that another program has computed (tests/fixtures/tiny-bert/make.py).

use std::{fs, path::Path};

use serde::Deserialize;

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");

/// A directory of all-MiniLM-L6-v2, as it is published.
const MODEL_VARIABLE: &str = "ENGRAM_TEST_MINILM";

#[derive(Deserialize)]
struct Expected {
    answers: Vec<Answer>,
    cosines: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    /// The first of them.
    tokens: Vec<u32>,
    token_count: usize,
    /// The first numbers of it.
    vector: Vec<f32>,
    /// The same, of the first token alone.
    first: Vec<f32>,
}

fn expected(file: &str) -> Expected {
    serde_json::from_slice(&fs::read(Path::new(FIXTURES).join(file)).unwrap()).unwrap()
}

fn tiny() -> std::path::PathBuf {
    Path::new(FIXTURES).join("tiny-bert")
}

fn open(directory: &Path) -> LocalModel {
    LocalModel::read(directory).unwrap_or_else(|error| panic!("{error:?}"))
}

#[track_caller]
fn check(model: &LocalModel, expected: &Expected) {
    let texts: Vec<String> = expected.answers.iter().map(|answer| answer.text.clone()).collect();
    for answer in &expected.answers {
        let tokens = model.tokenizer.tokens_of(&answer.text, model.tokens_max);
        assert_eq!(tokens.len(), answer.token_count, "{:.80}", answer.text);
        assert_eq!(tokens[..answer.tokens.len()], answer.tokens, "{:.80}", answer.text);
    }
    let vectors = model.embed(&texts);
    for (vector, answer) in vectors.iter().zip(&expected.answers) {
        assert_near(vector, &answer.vector, &answer.text);
    }
    for (a, row) in vectors.iter().zip(&expected.cosines) {
        for (b, cosine) in vectors.iter().zip(row) {
            let got: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            assert!((got - cosine).abs() < 2e-4, "{got} for {cosine}");
        }
    }
}

#[track_caller]
fn assert_near(got: &[f32], expected: &[f32], text: &str) {
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 2e-5, "{got} for {expected} in {text:.80}");
    }
}

#[test]
fn a_tiny_model_gives_the_vectors_that_another_program_has_computed() {
    check(&open(&tiny()), &expected("tiny-bert/expected.json"));
}

#[test]
fn a_model_that_pools_by_its_first_token_does() {
    let directory = copy_of_tiny();
    let pooling = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    fs::write(directory.path().join("1_Pooling/config.json"), pooling).unwrap();
    let model = open(directory.path());
    for answer in expected("tiny-bert/expected.json").answers {
        assert_near(&model.embed(std::slice::from_ref(&answer.text))[0], &answer.first, &answer.text);
    }
}

#[test]
fn tokenizer_json_says_the_same_as_the_vocabulary() {
    let directory = copy_of_tiny();
    let vocabulary = fs::read_to_string(tiny().join("vocab.txt")).unwrap();
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        (0..).zip(vocabulary.lines()).map(|(n, token): (u32, _)| (token.to_owned(), n.into())).collect();
    let file = serde_json::json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocabulary},
    });
    fs::write(directory.path().join("tokenizer.json"), file.to_string()).unwrap();
    fs::remove_file(directory.path().join("vocab.txt")).unwrap();
    check(&open(directory.path()), &expected("tiny-bert/expected.json"));
}

/// all-MiniLM-L6-v2, whose cosines are published: 0.7553 for the first two sentences, 0.6660 for the weather.
#[test]
fn a_published_model_gives_its_published_vectors() {
    let Some(directory) = std::env::var_os(MODEL_VARIABLE) else {
        println!("skipped: {MODEL_VARIABLE} names no directory of all-MiniLM-L6-v2");
        assert!(std::env::var_os("CI").is_none(), "skipped in CI");
        return;
    };
    let (model, expected) = (open(Path::new(&directory)), expected("all-minilm-l6-v2.json"));
    assert_eq!(model.dimension(), 384);
    assert!(model.name().starts_with("bert-384-mean-"), "{}", model.name());
    check(&model, &expected);
}

#[test]
fn a_directory_that_is_no_model_of_this_kind_is_refused_with_the_reason() {
    type Change = (&'static str, Option<&'static str>, &'static str);
    let rows: [Change; 9] = [
        ("config.json", None, "it has no config.json"),
        ("config.json", Some("{"), "config.json: EOF"),
        ("model.safetensors", None, "model.safetensors: No such file"),
        ("model.safetensors", Some("no tensors"), "model.safetensors: "),
        ("vocab.txt", None, "vocab.txt: No such file"),
        ("vocab.txt", Some("a\nb\n"), "expected a token [UNK]"),
        (
            "1_Pooling/config.json",
            Some(r#"{"pooling_mode_max_tokens": true}"#),
            "expected pooling by the mean",
        ),
        (
            "modules.json",
            Some(r#"[{"type": "sentence_transformers.models.Dense"}]"#),
            "expected no module but encoder and pooling",
        ),
        ("tokenizer.json", Some(r#"{"model": {"type": "WordLevel", "vocab": {}}}"#), "tokens by WordPiece"),
    ];
    for (file, content, expected) in rows {
        let directory = copy_of_tiny();
        let file = directory.path().join(file);
        match content {
            Some(content) => fs::write(file, content).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let failure = LocalModel::open(directory.path()).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
    for (from, to, expected) in [
        ("\"bert\"", "\"mpnet\"", "a model_type of \"bert\", got \"mpnet\""),
        ("\"gelu\"", "\"relu\"", "a hidden_act of \"gelu\""),
        ("\"hidden_size\": 8", "\"hidden_size\": 10", "of 10 columns, got [41, 8]"),
        ("\"hidden_size\": 8", "\"hidden_size\": 7", "its heads share, got 7 and 2"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "encoder.layer.2"),
        ("\"max_position_embeddings\": 16", "\"max_position_embeddings\": 17", "17 positions, got 16"),
    ] {
        let directory = copy_of_tiny();
        let config = fs::read_to_string(tiny().join("config.json")).unwrap();
        assert!(config.contains(from), "{config}");
        fs::write(directory.path().join("config.json"), config.replace(from, to)).unwrap();
        let failure = LocalModel::open(directory.path()).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    }
}

fn copy_of_tiny() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    for file in ["config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json"] {
        fs::copy(tiny().join(file), copy.path().join(file)).unwrap();
    }
    copy
}
