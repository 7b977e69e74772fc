//! What a crash test stores: all of a memory follows from its id and one number, so that knowing the number is knowing
//! every byte that must come back.

use super::random::Random;

/// How many numbers an embedding has.
pub(super) const DIMENSION: usize = 8;

/// The greatest number of an embedding. A vector of whole numbers with this one in it comes back exactly as it was
/// sent, from `f32` and from `int8`: its scale is 1.
const CODE_MAX: u8 = 127;

/// The content of a memory: mostly short, now and then longer than a page of the disk, and never the same for another
/// id or number.
pub(super) fn content(id: &str, number: u64) -> String {
    let words =
        if number.is_multiple_of(64) { 4_000 } else { usize::try_from(number % 40).unwrap_or_default() };
    let mut content = format!("{id} holds number {number}:");
    for word in [" all", " of", " this", " must", " come", " back"].iter().cycle().take(words) {
        content.push_str(word);
    }
    content.push('.');
    content
}

/// The embedding of a memory; one in three has none.
pub(super) fn embedding(number: u64) -> Option<[f32; DIMENSION]> {
    if number.is_multiple_of(3) {
        return None;
    }
    let mut random = Random::new(number);
    let mut embedding = [f32::from(CODE_MAX); DIMENSION];
    for code in &mut embedding[1..] {
        let sign = if random.one_in(2) { -1.0 } else { 1.0 };
        *code = sign * random.below(u64::from(CODE_MAX) + 1) as f32;
    }
    Some(embedding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_differ_by_id_and_number_and_have_many_lengths() {
        assert_ne!(content("a", 1), content("b", 1));
        assert_ne!(content("a", 1), content("a", 2));
        assert!(content("a", 64).len() > 16_000);
        assert!(content("a", 1).len() < 100);
    }

    #[test]
    fn embeddings_are_whole_numbers_with_the_greatest_one_among_them() {
        assert_eq!(embedding(3), None);
        for number in [1, 2, 4, 1 << 40] {
            let numbers = embedding(number).unwrap();
            assert!(numbers.iter().all(|n| n.fract() == 0.0 && n.abs() <= 127.0), "{numbers:?}");
            assert!(numbers.contains(&127.0));
        }
        assert_ne!(embedding(1), embedding(2));
    }
}
