//! An endpoint in all its moods, over real HTTP.

use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::embed::embed_endpoint::{EmbedEndpoint, Reply, Request as Asked, vectors};

const LONG: Duration = Duration::from_secs(30);

fn config(url: &str) -> EndpointConfig {
    EndpointConfig {
        url: format!("{url}/embeddings"),
        model: "test".to_owned(),
        key: Some("sk-secret".parse().unwrap()),
        dimensions: None,
        timeout: LONG,
    }
}

fn embed(server: &EmbedEndpoint, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
    let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
    Endpoint::new(config(&server.url)).embed(&texts, LONG)
}

/// The error after this reply.
fn error_of(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> EmbedError {
    let server = EmbedEndpoint::start(reply);
    let error = embed(&server, &["a", "b"]).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}/embeddings: ", server.url)), "{error}");
    assert!(!error.to_string().contains("sk-secret"), "{error}");
    error
}

#[test]
fn a_request_has_the_model_the_texts_and_the_key() {
    let server = EmbedEndpoint::of_words(3);
    let texts = ["one".to_owned(), "two\n\"words\"".to_owned()];
    let endpoint = Endpoint::new(EndpointConfig { dimensions: Some(3), ..config(&server.url) });
    let got = endpoint.embed(&texts, LONG).unwrap();
    assert_eq!((got.len(), got[0].len()), (2, 3));
    let request = &server.requests()[0];
    assert_eq!(
        (&*request.path, request.authorization.as_deref()),
        ("/v1/embeddings", Some("Bearer sk-secret"))
    );
    let body = json!({"model": "test", "input": texts, "encoding_format": "float", "dimensions": 3});
    assert_eq!(request.body, body);
}

#[test]
fn vectors_out_of_order_go_to_their_texts() {
    let in_order = EmbedEndpoint::of_words(4);
    let reversed = EmbedEndpoint::start(|request| {
        let mut answer = vectors(&request.texts(), 4);
        answer["data"].as_array_mut().unwrap().reverse();
        Reply::Json(200, answer)
    });
    let texts = ["tea", "moon", "train"];
    assert_eq!(embed(&reversed, &texts).unwrap(), embed(&in_order, &texts).unwrap());
}

#[test]
fn base64_is_taken_where_a_list_was_asked_for() {
    let server = EmbedEndpoint::start(|_| {
        Reply::Json(200, json!({"data": [{"index": 0, "embedding": "AACAPwAAAMA="}]})) // 1, -2
    });
    assert_eq!(embed(&server, &["x"]).unwrap(), [[1.0, -2.0]]);
}

type Row = (Box<dyn Fn() -> Reply + Send + Sync>, Kind, &'static str);

#[test]
fn each_failure_is_of_its_kind_and_says_why() {
    let transient = Kind::Transient { retry_after: None };
    let json = |status, body: serde_json::Value| move || Reply::Json(status, body.clone());
    let text = |status, head, body: &'static str| move || Reply::Text(status, head, body.to_owned());
    let openai = json!({"error": {"message": "Incorrect key: sk-secret", "type": "auth", "code": null}});
    let rows: Vec<Row> = vec![
        (Box::new(json(401, openai)), Kind::Misconfigured, "401 Unauthorized: Incorrect key: [key]"),
        (
            Box::new(json(404, json!({"error": "model \"m\" not found"}))),
            Kind::Misconfigured,
            "model \"m\" not found",
        ),
        (
            Box::new(text(403, "", "<html>\n<h1>Forbidden</h1>")),
            Kind::Misconfigured,
            ": <html> <h1>Forbidden</h1>",
        ),
        (
            Box::new(text(307, "location: http://other/v1\r\n", "")),
            Kind::Misconfigured,
            "elsewhere, to http://other/v1",
        ),
        (Box::new(text(302, "location: http://other/v1\r\n", "")), Kind::Misconfigured, "set --embed-url"),
        (Box::new(json(400, json!({"message": "too long"}))), Kind::Refused, "400 Bad Request: too long"),
        (Box::new(text(413, "", "Payload Too Large")), Kind::Refused, "Payload Too Large"),
        (
            Box::new(json(422, json!({"error": "`inputs` must have less than 512 tokens"}))),
            Kind::Refused,
            "512",
        ),
        (Box::new(text(500, "", "boom")), Kind::Broken, "500 Internal Server Error: boom"),
        (Box::new(text(502, "", "bad gateway")), transient, "bad gateway"),
        (
            Box::new(text(429, "retry-after: 7\r\n", "slow down")),
            Kind::Transient { retry_after: Some(Duration::from_secs(7)) },
            "slow down",
        ),
        (Box::new(text(200, "", "<html>hello</html>")), Kind::Misconfigured, "got \"<html>hello</html>\""),
        (
            Box::new(json(200, json!({"data": [{"index": 0, "embedding": [1.0]}]}))),
            Kind::Misconfigured,
            "expected 2 embeddings, got 1",
        ),
        (
            Box::new(json(
                200,
                json!({"data": [{"index": 0, "embedding": [1.0, null]}, {"index": 1, "embedding": [1.0, 0.5]}]}),
            )),
            Kind::Refused,
            "NaN",
        ),
        (Box::new(|| Reply::Half), transient, "ended before its end"),
    ];
    for (reply, kind, expected) in rows {
        let error = error_of(move |_| reply());
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_silent_endpoint_is_given_up() {
    let server = EmbedEndpoint::start(|_| Reply::Silence);
    let error = Endpoint::new(config(&server.url)).embed(&["a".to_owned()], Duration::from_millis(50));
    let error = error.unwrap_err();
    assert_eq!(error.kind, Kind::Transient { retry_after: None });
    assert!(error.to_string().ends_with("expected an answer within 50 ms"), "{error}");
}

#[test]
fn nobody_there_is_transient() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = Endpoint::new(config(&url)).embed(&["a".to_owned()], LONG).unwrap_err();
    assert_eq!(error.kind, Kind::Transient { retry_after: None });
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let server = EmbedEndpoint::start(|_| Reply::Endless);
    let error = embed(&server, &["a"]).unwrap_err();
    assert_eq!(error.kind, Kind::Misconfigured);
    assert!(error.to_string().contains(&format!("at most {ANSWER_BYTES_MAX} bytes, got more")), "{error}");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = DateTime::parse_from_rfc3339("2026-03-01T09:30:00Z").unwrap().to_utc();
    for (text, seconds) in [
        ("3", Some(3)),
        (" 12 ", Some(12)),
        ("Sun, 01 Mar 2026 09:30:20 GMT", Some(20)),
        ("999999", Some(300)),
        ("Sun, 01 Mar 2026 09:00:00 GMT", None),
        ("soon", None),
        ("-1", None),
    ] {
        assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
    }
}
