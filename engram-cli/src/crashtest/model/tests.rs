use super::*;

const A: &str = "c0-a";
const B: &str = "c1-b";

fn ack(id: &str, number: Option<u64>, lsn: u64) -> Acknowledged {
    Acknowledged { change: Change { id: id.to_owned(), number }, lsn, durability: "synced".to_owned() }
}

/// What one client was acknowledged.
fn work(acknowledged: &[(&str, Option<u64>, u64)]) -> Work {
    let acknowledged = acknowledged.iter().map(|(id, number, lsn)| ack(id, *number, *lsn)).collect();
    Work { acknowledged, in_flight: Vec::new() }
}

fn in_flight(id: &str, number: Option<u64>) -> Work {
    Work { acknowledged: Vec::new(), in_flight: vec![Change { id: id.to_owned(), number }] }
}

fn found(id: &str, number: u64, lsn: u64) -> Found {
    Found {
        id: id.to_owned(),
        content: content(id, number),
        lsn,
        has_embedding: embedding(number).is_some(),
        embedding: embedding(number).map(Vec::from),
    }
}

fn snapshot(applied_lsn: u64, memories: &[Found]) -> Snapshot {
    Snapshot { memories: memories.to_vec(), applied_lsn, damaged_ranges: 0, lost_records: 0 }
}

/// A store in which A holds 1 at LSN 2 and B holds 2 at LSN 3, checked; then the given work.
fn model(then: Vec<Work>) -> Model {
    let mut model = Model::new("synced");
    assert_eq!(model.note(vec![work(&[(A, Some(1), 2)]), work(&[(B, Some(2), 3)])]), []);
    let checked = model.check(&snapshot(3, &[found(A, 1, 2), found(B, 2, 3)]), Allowed::Nothing);
    assert_eq!(checked.losses, []);
    assert_eq!(model.note(then), []);
    model
}

/// The one loss.
fn loss(model: &mut Model, snapshot: &Snapshot) -> Loss {
    let mut losses = model.check(snapshot, Allowed::Nothing).losses;
    assert_eq!(losses.len(), 1, "{losses:?}");
    losses.remove(0)
}

#[test]
fn what_was_acknowledged_is_there() {
    let mut model = model(vec![work(&[(A, Some(4), 4), ("c0-c", Some(5), 6)]), work(&[(B, None, 5)])]);
    assert_eq!(model.present().collect::<Vec<_>>(), [A, "c0-c"]);
    let checked = model.check(&snapshot(6, &[found(A, 4, 4), found("c0-c", 5, 6)]), Allowed::Nothing);
    assert_eq!((checked.losses, checked.lost_allowed, checked.in_flight_kept), (vec![], 0, 0));
}

#[test]
fn a_lost_store_is_found() {
    let mut model = model(vec![work(&[("c0-c", Some(5), 4)])]);
    let loss = loss(&mut model, &snapshot(4, &[found(A, 1, 2), found(B, 2, 3)]));
    assert_eq!((loss.id.as_deref(), loss.lsn, loss.found.as_str()), (Some("c0-c"), Some(4), "nothing"));
    assert!(loss.expected.contains("number 5"), "{loss:?}");
}

#[test]
fn a_lost_update_is_found() {
    let mut model = model(vec![work(&[(A, Some(4), 4)])]);
    let loss = loss(&mut model, &snapshot(4, &[found(A, 1, 2), found(B, 2, 3)]));
    assert!(loss.expected.contains("number 4") && loss.found.contains("number 1"), "{loss:?}");
}

#[test]
fn an_undone_delete_is_found() {
    let mut model = model(vec![work(&[(B, None, 4)])]);
    let loss = loss(&mut model, &snapshot(4, &[found(A, 1, 2), found(B, 2, 3)]));
    assert_eq!((loss.id.as_deref(), loss.lsn), (Some(B), Some(4)));
    assert!(loss.expected.contains("forgotten at LSN 4"), "{loss:?}");
}

#[test]
fn an_invented_memory_is_found() {
    let loss = loss(&mut model(vec![]), &snapshot(4, &[found(A, 1, 2), found(B, 2, 3), found("x", 1, 4)]));
    assert!(loss.expected.contains("never stored"), "{loss:?}");
}

#[test]
fn a_memory_that_is_there_twice_is_found() {
    let memories = [found(A, 1, 2), found(A, 1, 2), found(B, 2, 3)];
    assert_eq!(loss(&mut model(vec![]), &snapshot(3, &memories)).id.as_deref(), Some(A));
}

#[test]
fn half_a_content_is_found_acknowledged_or_in_flight() {
    for work in [work(&[(A, Some(4), 4)]), in_flight(A, Some(4))] {
        let mut half = found(A, 4, 4);
        half.content.truncate(half.content.len() / 2);
        let loss = loss(&mut model(vec![work]), &snapshot(4, &[half, found(B, 2, 3)]));
        assert!(loss.expected.contains("number 4"), "{loss:?}");
    }
}

#[test]
fn another_embedding_or_none_is_found() {
    let other = Found { embedding: Some(vec![0.5; 8]), ..found(A, 1, 2) };
    let none = Found { has_embedding: false, embedding: None, ..found(A, 1, 2) };
    for wrong in [other, none] {
        loss(&mut model(vec![]), &snapshot(3, &[wrong, found(B, 2, 3)]));
    }
    let unread = Found { embedding: None, ..found(A, 1, 2) };
    let checked = model(vec![]).check(&snapshot(3, &[unread, found(B, 2, 3)]), Allowed::Nothing);
    assert_eq!(checked.losses, [], "an embedding that was not asked for is not missing");
}

#[test]
fn a_wrong_lsn_is_found() {
    let loss = loss(&mut model(vec![]), &snapshot(5, &[found(A, 1, 5), found(B, 2, 3)]));
    assert!(loss.expected.contains("LSN 2") && loss.found.contains("LSN 5"), "{loss:?}");
}

#[test]
fn an_lsn_that_is_given_twice_is_found() {
    let again = model(vec![]).note(vec![work(&[(A, Some(4), 3)])]);
    assert_eq!(again[0].expected, "an LSN above 3");
    let shared = model(vec![]).note(vec![work(&[(A, Some(4), 4)]), work(&[(B, Some(5), 4)])]);
    assert_eq!(shared[0].expected, "an LSN of its own");
    let back = model(vec![]).note(vec![work(&[(A, Some(4), 5), (A, Some(5), 4)])]);
    assert_eq!(back[0].expected, "an LSN above 5");
    // By what was in flight, too.
    let mut model = model(vec![work(&[(A, Some(4), 4)]), in_flight(B, Some(5))]);
    loss(&mut model, &snapshot(4, &[found(A, 4, 4), found(B, 5, 4)]));
}

#[test]
fn a_receipt_that_promises_too_little_is_found() {
    let written = Acknowledged { durability: "written".to_owned(), ..ack(A, Some(4), 4) };
    let losses = model(vec![]).note(vec![Work { acknowledged: vec![written], in_flight: vec![] }]);
    assert_eq!(
        (losses[0].expected.as_str(), losses[0].found.as_str()),
        ("a receipt that says synced", "written")
    );
}

#[test]
fn what_was_in_flight_is_there_or_not() {
    for (change, kept, memories) in [
        (Some(4), 1, vec![found(A, 4, 4), found(B, 2, 3)]),
        (Some(4), 0, vec![found(A, 1, 2), found(B, 2, 3)]),
        (None, 1, vec![found(B, 2, 3)]),
        (None, 0, vec![found(A, 1, 2), found(B, 2, 3)]),
    ] {
        let checked = model(vec![in_flight(A, change)]).check(&snapshot(4, &memories), Allowed::Nothing);
        assert_eq!((checked.losses, checked.in_flight_kept), (vec![], kept), "{change:?}");
    }
}

#[test]
fn a_phantom_is_found() {
    // Once it has been shown, it stays.
    let mut model = model(vec![in_flight(A, Some(4))]);
    model.check(&snapshot(4, &[found(A, 4, 4), found(B, 2, 3)]), Allowed::Nothing);
    let gone = snapshot(4, &[found(A, 1, 2), found(B, 2, 3)]);
    assert!(loss(&mut model, &gone).expected.contains("number 4"));
    // And a request is in flight only until the check: it does not come later.
    let mut model = self::model(vec![in_flight(A, Some(4))]);
    model.check(&snapshot(3, &[found(A, 1, 2), found(B, 2, 3)]), Allowed::Nothing);
    loss(&mut model, &snapshot(4, &[found(A, 4, 4), found(B, 2, 3)]));
}

#[test]
fn a_log_that_goes_back_or_says_it_is_damaged_is_found() {
    let memories = [found(A, 1, 2), found(B, 2, 3)];
    let mut model = model(vec![work(&[("c0-c", Some(5), 4), ("c0-c", None, 5)])]);
    assert!(loss(&mut model, &snapshot(4, &memories)).expected.contains("up to LSN 5"));
    let damaged = Snapshot { damaged_ranges: 1, ..snapshot(3, &memories) };
    assert!(loss(&mut self::model(vec![]), &damaged).found.contains("1 damaged"));
}

#[test]
fn a_weak_mode_may_lose_the_newest_and_nothing_else() {
    let acknowledged =
        || vec![work(&[(A, Some(4), 4), (A, None, 7)]), work(&[("c1-d", Some(5), 5), (B, Some(6), 6)])];
    let check = |applied, memories: &[Found]| {
        model(acknowledged()).check(&snapshot(applied, memories), Allowed::Newest)
    };

    let all = check(7, &[found("c1-d", 5, 5), found(B, 6, 6)]);
    assert_eq!((all.losses, all.lost_allowed), (vec![], 0));
    let prefix = check(5, &[found(A, 4, 4), found(B, 2, 3), found("c1-d", 5, 5)]);
    assert_eq!((prefix.losses, prefix.lost_allowed), (vec![], 2));
    let none = check(3, &[found(A, 1, 2), found(B, 2, 3)]);
    assert_eq!((none.losses, none.lost_allowed), (vec![], 4));

    let hole = check(6, &[found(A, 4, 4), found(B, 6, 6)]);
    assert_eq!(hole.losses[0].id.as_deref(), Some("c1-d"), "a hole is no prefix");
    let beyond = check(4, &[found(A, 4, 4), found(B, 2, 3), found("c1-d", 5, 5)]);
    assert!(!beyond.losses.is_empty(), "nothing is there from beyond the end of the log");
    let shown = check(2, &[found(A, 1, 2)]);
    assert!(shown.losses.iter().any(|loss| loss.id.as_deref() == Some(B)), "what was shown stays");
}

#[test]
fn lsns_that_a_weak_mode_has_lost_are_given_again() {
    let mut model = model(vec![work(&[(A, Some(4), 4)])]);
    let checked = model.check(&snapshot(3, &[found(A, 1, 2), found(B, 2, 3)]), Allowed::Newest);
    assert_eq!(checked.lost_allowed, 1);
    assert_eq!(model.note(vec![work(&[(A, Some(5), 4)])]), []);
}
