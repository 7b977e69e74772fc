pub(super) mod index;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;

use super::chunk::CHUNK_ROWS;
use super::kernel::Kernel;
use super::{RowId, StoredVector, VectorArena, chunk::Query, rounded};
use crate::embedding::{Embedding, EmbeddingError, NORM_MAX, NORM_MIN, Precision};
use crate::index::{IndexSettings, Route};
use crate::top_k::Scored;

const PRECISIONS: [Precision; 2] = [Precision::Int8, Precision::F32];

pub(super) fn stored(numbers: &[f32], precision: Precision) -> StoredVector {
    StoredVector::from_embedding(&numbers.into(), numbers.len(), precision).unwrap()
}

fn refused(numbers: impl Into<Embedding>, dimension: usize) -> EmbeddingError {
    let embedding = numbers.into();
    let errors = PRECISIONS.map(|precision| {
        StoredVector::from_embedding(&embedding, dimension, precision)
            .expect_err("a vector that must be refused")
    });
    let [int8, f32] = errors;
    assert_eq!(int8.to_string(), f32.to_string());
    int8
}

/// Numbers that look random and are the same in every run.
pub(super) fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from(u16::try_from(state >> 48).unwrap()) / 32768.0 - 1.0
    }
}

pub(super) fn noise_vector(seed: u64, dimension: usize) -> Vec<f32> {
    let mut next = noise(seed);
    (0..dimension).map(|_| next()).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A number of any size a vector may have, zero included.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![8 => -1.0_f32..1.0, 1 => Just(0.0_f32), 1 => -1e9_f32..1e9, 1 => -1e-9_f32..1e-9]
}

// --- quantisation

proptest! {
    #[test]
    fn a_dequantised_vector_is_quantised_to_the_same_bits(
        numbers in prop::collection::vec(number(), 1..40),
        exponent in -40_i32..40,
    ) {
        let numbers: Vec<f32> = numbers.iter().map(|number| number * 2.0_f32.powi(exponent)).collect();
        let embedding = Embedding::from(numbers);
        for precision in PRECISIONS {
            let Ok(once) = StoredVector::from_embedding(&embedding, embedding.dimension(), precision) else {
                continue;
            };
            prop_assert_eq!(once.check(embedding.dimension(), precision), Ok(()));
            prop_assert_eq!(&stored(&once.to_f32(), precision), &once);
        }
    }

    #[test]
    fn no_number_is_off_by_more_than_half_a_step(numbers in prop::collection::vec(-1.0_f32..1.0, 1..40)) {
        prop_assume!(numbers.iter().any(|number| number.abs() > 1e-3));
        let vector = stored(&numbers, Precision::Int8);
        let StoredVector::Int8 { codes, scale } = &vector else { unreachable!() };
        prop_assert!(codes.iter().any(|code| code.abs() == 127));
        prop_assert!(codes.iter().all(|code| *code != i8::MIN));
        for (number, restored) in numbers.iter().zip(vector.to_f32()) {
            prop_assert!((number - restored).abs() <= scale * 0.50001);
        }
    }
}

#[test]
fn quotients_are_rounded_half_away_from_zero() {
    for whole in 0..127_i8 {
        let half = f32::from(whole) + 0.5;
        for quotient in [half.next_down(), half, half.next_up(), f32::from(whole)] {
            assert_eq!(f32::from(rounded(quotient)).to_bits(), quotient.round().to_bits(), "{quotient}");
            assert_eq!(rounded(-quotient), -rounded(quotient), "{quotient}");
        }
    }
    assert_eq!(rounded(127.0_f32.next_up()), 127);
    let vector = stored(&[127.0, -127.0, 0.5, -0.5, 1.49, 0.0], Precision::Int8);
    assert_eq!(vector, StoredVector::Int8 { codes: [127, -127, 1, -1, 1, 0].into(), scale: 1.0 });
}

#[test]
fn vectors_that_cannot_be_compared_are_refused() {
    assert_eq!(refused([0.5; 384], 768), EmbeddingError::Dimension { expected: 768, got: 384 });
    assert_eq!(refused([0.0, -0.0], 2), EmbeddingError::Zero);
    assert_eq!(refused([], 0), EmbeddingError::Zero);
    for value in [f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(refused([1.0, value, f32::NAN], 3), EmbeddingError::NotFinite { index: 1, value });
    }
    assert!(
        matches!(refused([0.0, f32::NAN], 2), EmbeddingError::NotFinite { index: 1, value } if value.is_nan())
    );
    for number in [f32::MAX, 1.1e15, 0.9e-15, f32::MIN_POSITIVE, f32::from_bits(1)] {
        assert_eq!(refused([0.0, number], 2), EmbeddingError::Norm { norm: f64::from(number) });
    }
}

#[test]
fn vectors_at_the_ends_of_the_range_are_compared_exactly() {
    for precision in PRECISIONS {
        let arena = VectorArena::new(3, precision, IndexSettings::default());
        for (item, factor) in [(1, 1.01e-15), (2, 0.99e15)] {
            let numbers = [0.6 * factor, 0.0, 0.8 * factor];
            assert!((NORM_MIN..NORM_MAX).contains(&f64::from(factor)));
            arena.insert(&stored(&numbers, precision), item);
        }
        for length in [1.01e-15, 1.0, 0.99e15] {
            let query = arena.query(&[0.6 * length, 0.8 * length, 0.0].into()).unwrap();
            for found in exact(&arena, &query, 2, |_| true, |item| *item) {
                assert!((found.score - 0.36).abs() < 4e-3, "{found:?} {length:e} {precision}");
            }
        }
    }
}

#[test]
fn what_is_let_in_is_let_in_again_when_it_is_read_back() {
    let mut refused = 0;
    for seed in 0..2000 {
        let numbers = noise_vector(seed, 8);
        let norm = dot(&numbers, &numbers).sqrt();
        for (bound, nudge) in [(NORM_MIN, 1.000_001), (NORM_MAX, 0.999_999)] {
            let factor = bound * nudge / norm;
            #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
            let scaled: Vec<f32> =
                numbers.iter().map(|number| (f64::from(*number) * factor) as f32).collect();
            let scaled = Embedding::from(scaled);
            for precision in PRECISIONS {
                match StoredVector::from_embedding(&scaled, 8, precision) {
                    Ok(vector) => assert_eq!(vector.check(8, precision), Ok(())),
                    Err(error) => {
                        assert!(
                            matches!(error, EmbeddingError::Norm { .. }) && precision == Precision::Int8,
                            "{error}"
                        );
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_vector_of_another_store_is_not_let_in() {
    let vector = stored(&[1.0, 2.0], Precision::Int8);
    let precision = EmbeddingError::Precision { expected: Precision::F32, got: Precision::Int8 };
    assert_eq!(vector.check(2, Precision::F32), Err(precision));
    let dimension = EmbeddingError::Dimension { expected: 3, got: 2 };
    assert_eq!(vector.check(3, Precision::Int8), Err(dimension));
    let zero = StoredVector::Int8 { codes: [0, 0].into(), scale: 1.0 };
    assert_eq!(zero.check(2, Precision::Int8), Err(EmbeddingError::Zero));
    for scale in [f32::NAN, f32::INFINITY, f32::MAX, -1.0, f32::MIN_POSITIVE] {
        assert!(
            StoredVector::Int8 { codes: [1, 0].into(), scale }.check(2, Precision::Int8).is_err(),
            "{scale}"
        );
    }
}

// --- kernels

fn plain_i8(query: &[i8], rows: &[i8]) -> Vec<i32> {
    let mut dots = Vec::new();
    for row in rows.chunks(query.len()) {
        let mut dot = 0;
        for index in 0..query.len() {
            dot += i32::from(query[index]) * i32::from(row[index]);
        }
        dots.push(dot);
    }
    dots
}

/// The documented order: number `i` into sum `i % 32`, then halves upon halves.
fn plain_f32(query: &[f32], row: &[f32]) -> f32 {
    let mut sums = [0.0; 32];
    for index in 0..query.len() {
        sums[index % 32] += query[index] * row[index];
    }
    for width in [16, 8, 4, 2, 1] {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

fn check_i8(query: &[i8], rows: &[i8]) {
    for kernel in Kernel::supported() {
        let mut out = vec![i32::MIN; rows.len() / query.len()];
        kernel.dot_i8_rows(query, rows, &mut out);
        assert_eq!(out, plain_i8(query, rows), "{kernel:?}, {} codes", query.len());
    }
}

fn query_and_rows() -> impl Strategy<Value = (Vec<i8>, Vec<i8>)> {
    let code = || prop_oneof![3 => any::<i8>(), 1 => Just(127), 1 => Just(-127), 1 => Just(-128)];
    (1_usize..300, 0_usize..5).prop_flat_map(move |(width, rows)| {
        (prop::collection::vec(code(), width), prop::collection::vec(code(), width * rows))
    })
}

proptest! {
    #[test]
    fn int8_kernels_equal_a_plain_loop((query, rows) in query_and_rows()) {
        check_i8(&query, &rows);
    }

    #[test]
    fn f32_kernels_equal_a_plain_loop_bit_for_bit(width in 1_usize..300, rows in 0_usize..4, seed: u64) {
        let query = noise_vector(seed, width);
        let rows = noise_vector(seed.wrapping_add(1), width * rows);
        let expected: Vec<_> = rows.chunks(width).map(|row| plain_f32(&query, row).to_bits()).collect();
        for kernel in Kernel::supported() {
            let mut out = vec![f32::NAN; expected.len()];
            kernel.dot_f32_rows(&query, &rows, &mut out);
            let bits: Vec<_> = out.iter().map(|dot| dot.to_bits()).collect();
            prop_assert_eq!(bits, &expected[..], "{:?}", kernel);
        }
    }
}

proptest! {
    #[test]
    fn hamming_kernels_equal_a_plain_loop(width in 1_usize..50, rows in 0_usize..10, seed: u64, all: bool) {
        let word = |index: usize| (index as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
        let query: Vec<u64> = (0..width).map(word).collect();
        // Of some, each bit differs: what sums of bits must hold.
        let other = |index: usize| if all { !query[index % width] } else { word(index) };
        let rows: Vec<u64> = (width..width * (rows + 1)).map(other).collect();
        let differing = |row: &[u64]| {
            let bit = |words: &[u64], bit: usize| words[bit / 64] >> (bit % 64) & 1;
            u32::try_from((0..width * 64).filter(|n| bit(&query, *n) != bit(row, *n)).count()).unwrap()
        };
        let expected: Vec<u32> = rows.chunks(width).map(differing).collect();
        for kernel in Kernel::supported() {
            let mut out = vec![u32::MAX; expected.len()];
            kernel.hamming_rows(&query, &rows, &mut out);
            prop_assert_eq!(&out, &expected, "{:?}", kernel);
        }
    }

    #[test]
    fn sign_kernels_equal_a_plain_loop(
        codes in prop::collection::vec(any::<i8>(), 1..300),
        inverse_norm in 0.0_f32..0.1,
        seed: u64,
    ) {
        // A third of the numbers are right at the mean: those are not above it.
        let mut mean = noise_vector(seed, codes.len());
        for (mean, code) in mean.iter_mut().zip(&codes).step_by(3) {
            *mean = f32::from(*code) * inverse_norm;
        }
        let mut expected = vec![0_u64; codes.len().div_ceil(64)];
        for index in 0..codes.len() {
            if f32::from(codes[index]) * inverse_norm > mean[index] {
                expected[index / 64] |= 1 << (index % 64);
            }
        }
        for kernel in Kernel::supported() {
            let mut words = vec![u64::MAX; expected.len()];
            kernel.signs(&codes, inverse_norm, &mean, &mut words);
            prop_assert_eq!(&words, &expected, "{:?}", kernel);
        }
    }
}

#[test]
fn int8_kernels_are_exact_at_the_extremes_and_at_every_width() {
    for (q, r) in [(127, 127), (-127, 127), (127, -127), (-127, -127), (-128, -128), (127, -128), (-128, 127)]
    {
        for width in (1..200).chain([768, 1535, 1536, 65_535, 65_536]) {
            check_i8(&vec![q; width], &vec![r; width * 3]);
        }
    }
}

// --- the arena

fn exact<T: Clone + Send + Sync + 'static>(
    arena: &VectorArena<T>,
    query: &Query,
    limit: usize,
    accept: impl Fn(&T) -> bool,
    tiebreak: impl Fn(&T) -> u64,
) -> Vec<Scored<T>> {
    let (found, route) = arena.search(query, limit, true, false, accept, tiebreak);
    assert_eq!(route, Route::Exact);
    found
}

/// What a scan must return, by the slowest way: all rows, sorted.
fn expected_scan(
    rows: &BTreeMap<u64, StoredVector>,
    query: &StoredVector,
    limit: usize,
    accept: impl Fn(&u64) -> bool,
) -> Vec<(u64, f64)> {
    let query = query.to_f32();
    let mut all: Vec<_> = rows.iter().filter(|(item, _)| accept(item)).collect();
    let score = |vector: &StoredVector| cosine(&query, &vector.to_f32());
    all.sort_by(|a, b| score(b.1).total_cmp(&score(a.1)).then(b.0.cmp(a.0)));
    all.truncate(limit);
    all.into_iter().map(|(item, vector)| (*item, score(vector))).collect()
}

fn assert_near(found: &[Scored<u64>], expected: &[(u64, f64)]) {
    assert_eq!(found.len(), expected.len());
    for (found, (item, score)) in found.iter().zip(expected) {
        assert!((f64::from(found.score) - score).abs() < 2e-6, "{found:?} {item} {score}");
    }
    assert!(found.is_sorted_by(|a, b| a.score > b.score || (a.score >= b.score && a.item > b.item)));
}

/// Over few directions, so that equal scores abound; the item is the number of the operation, like an LSN.
#[derive(Clone, Debug)]
enum Operation {
    Insert(u64),
    Replace(usize, u64),
    Remove(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0_u64..12).prop_map(Operation::Insert),
        1 => (any::<usize>(), 0_u64..12).prop_map(|(row, seed)| Operation::Replace(row, seed)),
        2 => any::<usize>().prop_map(Operation::Remove),
    ]
}

proptest! {
    #[test]
    fn a_scan_finds_what_a_full_sort_finds(
        operations in prop::collection::vec(operation(), 0..80),
        dimension in 1_usize..70,
        limit in 0_usize..40,
        modulus in 1_u64..4,
    ) {
        for precision in PRECISIONS {
            let arena = VectorArena::new(dimension, precision, IndexSettings::default());
            let mut rows: Vec<(RowId, u64)> = Vec::new();
            let mut model = BTreeMap::new();
            let vector = |seed: u64| stored(&noise_vector(seed, dimension), precision);
            for (operation, item) in operations.iter().zip(0_u64..) {
                match operation {
                    Operation::Insert(seed) => {
                        rows.push((arena.insert(&vector(*seed), item), item));
                        model.insert(item, vector(*seed));
                    }
                    Operation::Replace(row, seed) if !rows.is_empty() => {
                        let row = row % rows.len();
                        arena.replace(rows[row].0, &vector(*seed), item);
                        model.remove(&rows[row].1);
                        model.insert(item, vector(*seed));
                        rows[row].1 = item;
                    }
                    Operation::Remove(row) if !rows.is_empty() => {
                        let (id, item) = rows.swap_remove(row % rows.len());
                        prop_assert_eq!(arena.remove(id), Some(item));
                        prop_assert_eq!(arena.remove(id), None);
                        prop_assert!(arena.read(id).is_none());
                        model.remove(&item);
                    }
                    Operation::Replace(..) | Operation::Remove(_) => {}
                }
            }
            prop_assert_eq!(arena.len(), model.len());
            for (id, item) in &rows {
                prop_assert_eq!(arena.read(*id), Some((*item, model[item].clone())));
            }
            let query = vector(3);
            let accept = |item: &u64| item.is_multiple_of(modulus);
            let found = exact(&arena, &Query::new(&query), limit, accept, |item| *item);
            prop_assert!(found.iter().all(|found| accept(&found.item)));
            assert_near(&found, &expected_scan(&model, &query, limit, accept));
        }
    }
}

#[test]
fn results_do_not_depend_on_where_the_rows_lie() {
    for precision in PRECISIONS {
        let scan = |order: &mut dyn Iterator<Item = u64>| {
            let arena = VectorArena::new(40, precision, IndexSettings::default());
            for item in order {
                arena.insert(&stored(&noise_vector(item % 50, 40), precision), item);
            }
            let query = arena.query(&noise_vector(7, 40).into()).unwrap();
            exact(&arena, &query, 300, |item| item % 3 != 0, |item| *item)
        };
        let count = 3 * CHUNK_ROWS as u64;
        let forwards = scan(&mut (0..count));
        assert_eq!(forwards.len(), 300);
        assert_eq!(forwards, scan(&mut (0..count).rev()));
    }
}

#[test]
fn every_vector_finds_itself_first() {
    for precision in PRECISIONS {
        let arena = VectorArena::new(768, precision, IndexSettings::default());
        for item in 0..1500 {
            arena.insert(&stored(&noise_vector(item, 768), precision), item);
        }
        for item in (0..1500).step_by(97) {
            let query = arena.query(&noise_vector(item, 768).into()).unwrap();
            let found = exact(&arena, &query, 1, |_| true, |item| *item);
            assert_eq!(found[0].item, item);
            assert!((1.0 - 1e-6..=1.0).contains(&found[0].score), "{found:?}");
        }
    }
}

#[test]
fn a_narrow_filter_still_fills_the_result() {
    let arena = VectorArena::new(8, Precision::Int8, IndexSettings::default());
    for item in 0..5000 {
        arena.insert(&stored(&noise_vector(item, 8), Precision::Int8), item);
    }
    let query = arena.query(&noise_vector(1, 8).into()).unwrap();
    assert_eq!(exact(&arena, &query, 10, |item| item % 450 == 449, |item| *item).len(), 10);
    assert_eq!(exact(&arena, &query, usize::MAX, |item| *item > 4996, |item| *item).len(), 3);
    let asked = Cell::new(0);
    let count = |_: &u64| {
        asked.set(asked.get() + 1);
        true
    };
    assert!(exact(&arena, &query, 0, count, |item| *item).is_empty());
    assert_eq!(asked.get(), 0);
    exact(&arena, &query, 10, count, |item| *item);
    assert!(asked.get() < 500, "asked about {} of 5000 items", asked.get());
}

#[test]
fn the_first_free_row_is_used_again() {
    let arena = VectorArena::new(2, Precision::Int8, IndexSettings::default());
    let vector = stored(&[1.0, 2.0], Precision::Int8);
    let ids: Vec<_> = (0..2000).map(|item| arena.insert(&vector, item)).collect();
    for index in [1500, 3, 700] {
        arena.remove(ids[index]);
    }
    let again: Vec<_> = (0..4).map(|item| arena.insert(&vector, item)).collect();
    assert_eq!(again[..3], [ids[3], ids[700], ids[1500]]);
    assert!(!ids.contains(&again[3]));
    assert_eq!(arena.len(), 2001);
}

#[test]
fn a_scan_finds_each_item_once_while_all_are_replaced() {
    const COUNT: u64 = 3000;
    let arena = VectorArena::new(16, Precision::Int8, IndexSettings::default());
    let vector = |seed| stored(&noise_vector(seed, 16), Precision::Int8);
    let ids: Vec<_> = (0..COUNT).map(|item| arena.insert(&vector(item), (item, 0))).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..8 {
                for (id, item) in ids.iter().zip(0..) {
                    arena.replace(*id, &vector(item + round), (item, round));
                    // Another row comes and goes, and must not disturb those that stay.
                    arena.remove(arena.insert(&vector(item), (COUNT, round)));
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut last = false;
        while !last {
            last = done.load(Ordering::Acquire);
            let query = Query::new(&vector(5));
            let found = exact(&arena, &query, usize::MAX, |item| item.0 < COUNT, |item| item.0);
            let mut items: Vec<_> = found.iter().map(|found| found.item.0).collect();
            items.sort_unstable();
            assert!(items.into_iter().eq(0..COUNT));
        }
    });
    assert_eq!(arena.len(), ids.len());
}

#[test]
fn a_panicking_filter_leaves_the_arena_usable() {
    let arena = VectorArena::new(2, Precision::Int8, IndexSettings::default());
    let vector = stored(&[1.0, 2.0], Precision::Int8);
    let id = arena.insert(&vector, 1);
    let scan = || exact(&arena, &Query::new(&vector), 1, |_| panic!("a filter of the test"), |item| *item);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(scan)).is_err());
    arena.replace(id, &vector, 2);
    assert_eq!(arena.read(id), Some((2, vector)));
}

#[test]
#[should_panic(expected = "a vector of another store")]
fn a_query_of_another_dimension_is_a_mistake_of_the_store() {
    let arena = VectorArena::<u64>::new(2, Precision::Int8, IndexSettings::default());
    exact(&arena, &Query::new(&stored(&[1.0], Precision::Int8)), 1, |_| true, |item| *item);
}
