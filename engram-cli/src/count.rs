//! Counts in words.

use std::fmt::Display;

/// "1 record", "2 records".
pub(crate) fn count<N: Copy + Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    let noun = if n == N::from(1) { one } else { many };
    format!("{n} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let memories = |n: usize| count(n, "memory", "memories");
        assert_eq!([memories(0), memories(1), memories(2)], ["0 memories", "1 memory", "2 memories"]);
    }
}
