//! The requests that were answered, so that a repetition is answered the same.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use engram_storage::Lsn;

use crate::{
    Outcome,
    limits::{REQUEST_AGE_MAX, REQUESTS_MAX},
    payload::Request,
};

/// A request, and what it was answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    pub(crate) request: Request,
    pub(crate) id: Arc<str>,
    pub(crate) lsn: Lsn,
    pub(crate) outcome: Outcome,
}

/// Those of one space, by their keys. What goes, by number or by age, depends on nothing but the records of the log: so
/// it is the same again after a recovery.
#[derive(Default)]
pub(super) struct Requests {
    by_key: HashMap<String, Lsn>,
    /// By the record that each is in.
    by_record: BTreeMap<Lsn, Arc<Answered>>,
}

impl Requests {
    pub(super) fn get(&self, key: &str) -> Option<Arc<Answered>> {
        self.by_record.get(self.by_key.get(key)?).cloned()
    }

    pub(super) fn insert(&mut self, record: Lsn, answered: Answered) {
        let age_max_us = i64::try_from(REQUEST_AGE_MAX.as_micros()).unwrap_or(i64::MAX);
        let oldest_us = answered.request.at_us.saturating_sub(age_max_us);
        if let Some(before) = self.by_key.insert(answered.request.key.clone(), record) {
            self.by_record.remove(&before);
        }
        self.by_record.insert(record, Arc::new(answered));
        while let Some(first) = self.by_record.first_entry()
            && (self.by_key.len() > REQUESTS_MAX || first.get().request.at_us < oldest_us)
        {
            let gone = first.remove();
            self.by_key.remove(&gone.request.key);
        }
    }

    /// The next ones after a record, each with its own.
    pub(super) fn next(&self, after: Lsn, limit: usize) -> Vec<(Lsn, Arc<Answered>)> {
        let after = self.by_record.range((Bound::Excluded(after), Bound::Unbounded));
        after.take(limit).map(|(record, answered)| (*record, Arc::clone(answered))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(key: &str, at_us: i64) -> Answered {
        let request = Request { key: key.to_owned(), fingerprint: 1, at_us };
        Answered { request, id: Arc::from("m"), lsn: Lsn::new(1), outcome: Outcome::Created }
    }

    #[test]
    fn the_oldest_go_by_number_and_by_age() {
        let mut requests = Requests::default();
        for n in 0..REQUESTS_MAX as u64 + 5 {
            requests.insert(Lsn::new(n + 1), answered(&n.to_string(), 0));
        }
        assert_eq!(requests.by_key.len(), REQUESTS_MAX);
        assert_eq!((requests.get("4"), requests.get("5").is_some()), (None, true));
        let later = i64::try_from(REQUEST_AGE_MAX.as_micros()).unwrap() + 1;
        requests.insert(Lsn::new(1 << 40), answered("late", later));
        assert_eq!((requests.by_key.len(), requests.by_record.len()), (1, 1));
    }

    #[test]
    fn a_key_that_comes_again_takes_the_place_of_the_former() {
        let mut requests = Requests::default();
        requests.insert(Lsn::new(1), answered("a", 0));
        requests.insert(Lsn::new(2), answered("a", 5));
        assert_eq!(requests.get("a").unwrap().request.at_us, 5);
        assert_eq!(requests.next(Lsn::ZERO, 10).len(), 1);
    }
}
