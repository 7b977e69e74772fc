//! Blocks of postings, against a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::words::postings::{Posting, Postings};

fn all(postings: &Postings) -> Vec<(u32, u8)> {
    let all = postings.blocks().iter().flat_map(|block| block.from(0));
    all.map(|Posting { doc, occurrences }| (doc, occurrences)).collect()
}

fn check(postings: &Postings, expected: &BTreeMap<u32, u8>) {
    assert_eq!(
        all(postings),
        expected.iter().map(|(doc, occurrences)| (*doc, *occurrences)).collect::<Vec<_>>()
    );
    assert_eq!(postings.len() as usize, expected.len());
    assert!(postings.blocks().is_sorted_by(|a, b| a.last() < b.base()), "a document is in one block");
    for block in postings.blocks() {
        assert!(block.len() > 0 && block.base() <= block.from(0).next().unwrap().doc);
        for Posting { doc, occurrences } in block.from(0) {
            assert_eq!(block.occurrences(doc), Some(occurrences));
            assert!(occurrences <= block.occurrences_max());
            assert_eq!(block.from(doc).next(), Some(Posting { doc, occurrences }));
        }
    }
}

proptest! {
    #[test]
    fn postings_are_those_of_a_map(
        operations in prop::collection::vec((0_u32..5, 0_u32..1_500), 0..3_000),
        stretch in prop_oneof![Just(1_u32), Just(500), Just(70_000)],
    ) {
        let (mut postings, mut expected) = (Postings::default(), BTreeMap::new());
        for (kind, doc) in operations {
            let doc = doc * stretch;
            if kind == 0 {
                postings.remove(doc);
                expected.remove(&doc);
            } else {
                postings.add(doc, 7);
                *expected.entry(doc).or_insert(0) += 1;
            }
        }
        check(&postings, &expected);
    }
}

#[test]
fn more_occurrences_than_count_are_as_many_as_count() {
    let mut postings = Postings::default();
    (0..1_000).for_each(|_| postings.add(3, 1_000));
    check(&postings, &BTreeMap::from([(3, u8::MAX)]));
}
