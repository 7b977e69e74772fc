//! Texts of which one is not taken.

use serde_json::json;

use super::{
    super::{
        config::Prefixes,
        embed_endpoint::{EmbedEndpoint, Reply, vector},
        testing::{embedder, with_prefixes},
    },
    *,
};

/// An endpoint that refuses requests with a text that contains this.
fn refusing(word: &'static str, status: u16) -> EmbedEndpoint {
    EmbedEndpoint::start(move |request| {
        if request.texts().iter().any(|text| text.contains(word)) {
            Reply::Json(status, json!({"error": {"message": "no such text"}}))
        } else {
            Reply::Vectors(3)
        }
    })
}

fn kinds(outcomes: &[Outcome]) -> Vec<Option<Kind>> {
    outcomes.iter().map(|outcome| outcome.as_ref().err().map(|error| error.kind)).collect()
}

#[test]
fn one_refused_text_is_found_and_the_others_are_embedded() {
    for status in [400, 413, 422, 500] {
        let server = refusing("bad", status);
        let outcomes = embedder(&server, 8).embed_each(&["a", "b", "bad", "c", "d"]);
        assert_eq!(kinds(&outcomes), [None, None, Some(Kind::Refused), None, None], "{status}");
        assert_eq!(outcomes[4].as_deref(), Ok(&*vector("d", 3)));
    }
}

#[test]
fn requests_have_at_most_a_batch() {
    let server = EmbedEndpoint::of_words(3);
    let texts = ["a", "b", "c", "d", "e"];
    assert!(embedder(&server, 2).embed_each(&texts).iter().all(Result::is_ok));
    let sizes: Vec<usize> = server.requests().iter().map(|request| request.texts().len()).collect();
    assert_eq!(sizes, [2, 2, 1]);
}

#[test]
fn a_model_that_takes_nothing_is_a_mistake_and_is_not_asked_for_each() {
    let server = refusing("", 400);
    let outcomes = embedder(&server, 8).embed_each(&["a", "b", "c"]);
    assert_eq!(kinds(&outcomes), [Some(Kind::Misconfigured); 3]);
    assert_eq!(server.requests().len(), 2, "the batch, and a text that any model takes");
    let server = refusing("", 500);
    let outcomes = embedder(&server, 8).embed_each(&["a", "b", "c"]);
    assert_eq!(kinds(&outcomes), [Some(Kind::Transient { retry_after: None }); 3]);
}

#[test]
fn a_long_text_is_embedded_by_its_beginning() {
    let server = EmbedEndpoint::start(|request| match request.texts().iter().map(|text| text.len()).max() {
        Some(3_000..) => Reply::Json(400, json!({"error": {"message": "at most 3000"}})),
        _ => Reply::Vectors(3),
    });
    let long = "é".repeat(5_000);
    let outcomes = embedder(&server, 8).embed_each(&["a", &long, "b"]);
    assert_eq!(outcomes[1].as_deref(), Ok(&*vector(&"é".repeat(1_250), 3)));
    assert_eq!(kinds(&outcomes), [None; 3]);
}

#[test]
fn an_endpoint_that_fails_is_not_asked_for_the_rest() {
    let server = EmbedEndpoint::start(|request| match request.number {
        0 => Reply::Vectors(3),
        _ => Reply::Text(503, "retry-after: 2\r\n", "loading".to_owned()),
    });
    let outcomes = embedder(&server, 1).embed_each(&["a", "b", "c"]);
    let later = Kind::Transient { retry_after: Some(std::time::Duration::from_secs(2)) };
    assert_eq!(kinds(&outcomes), [None, Some(later), Some(later)]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn prefixes_go_before_texts_and_questions() {
    let server = EmbedEndpoint::of_words(3);
    let prefixes = Prefixes { document: "doc: ".to_owned(), query: "ask: ".to_owned() };
    let embedder = with_prefixes(&server, 8, prefixes);
    embedder.embed_documents(&["tea"]).unwrap();
    embedder.embed_query("tea?", std::time::Duration::MAX).unwrap();
    let requests = server.requests();
    assert_eq!((requests[0].texts(), requests[1].texts()), (vec!["doc: tea"], vec!["ask: tea?"]));
}

#[test]
fn vectors_of_another_length_than_the_stores_are_refused_for_all() {
    let server = EmbedEndpoint::of_words(3);
    let embedder = embedder(&server, 8);
    embedder.expect(4).unwrap();
    let error = embedder.embed_documents(&["tea"]).unwrap_err();
    assert_eq!(error.kind, Kind::Misconfigured);
    assert!(error.to_string().contains("of 4 numbers, as the store's are, got 3"), "{error}");
    assert!(embedder.expect(5).unwrap_err().to_string().contains("got a model of 4"));
}
