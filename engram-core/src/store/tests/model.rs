//! Another model for a store that is in use.

use engram_storage::WalReader;

use super::{
    loss::{lose, spoil_snapshot},
    *,
};
use crate::{LogAudit, ModelIdentity, payload::Config};

fn model(name: &str) -> ModelIdentity {
    ModelIdentity { name: name.to_owned(), document_prefix: String::new(), query_prefix: String::new() }
}

fn stage(store: &MemoryStore, staging: &mut Staging, id: &str, vector: Vec<f32>) -> Result<(), StoreError> {
    store.stage(staging, "default", &store.get(id).unwrap(), &Embedding::from(vector))
}

#[test]
fn of_each_memory_the_last_version_is_staged() {
    let store = open(&SimDisk::new(1));
    store.store(episode("a", 1.0)).unwrap();
    let first = store.get("a").unwrap();
    let mut staging = store.begin_staging(2).unwrap();
    stage(&store, &mut staging, "a", vec![1.0, 0.0]).unwrap();
    assert!(staging.has(&first));
    store.store(episode("a", 2.0)).unwrap();
    let second = store.get("a").unwrap();
    assert!(!staging.has(&second));
    stage(&store, &mut staging, "a", vec![0.0, 1.0]).unwrap();
    assert!(staging.has(&second) && !staging.has(&first));
    assert_eq!(staging.count(), 1);
    store.change_model(staging, model("new")).unwrap();
    let (_, embedding) = store.get_with_embedding("a").unwrap();
    assert_eq!(embedding, Some(Embedding::from(vec![0.0, 1.0])));
}

#[test]
fn what_is_staged_takes_memory_of_what_there_may_be_taken() {
    let disk = SimDisk::new(1);
    let store = MemoryStore::new(1000).with_dimension(4).unwrap().with_memory_limit(3_000);
    let store = store.with_log(Arc::new(disk), options()).unwrap();
    store.store(episode("a", 1.0)).unwrap();
    store.store(episode("b", 1.0)).unwrap();
    let bytes = store.status().memory_bytes;
    let too_long = store.begin_staging(1_000).unwrap_err();
    assert!(matches!(too_long, StoreError::MemoryLimitReached { limit: 3_000, .. }), "{too_long}");
    let mut staging = store.begin_staging(500).unwrap();
    stage(&store, &mut staging, "a", vec![1.0; 500]).unwrap();
    stage(&store, &mut staging, "b", vec![1.0; 500]).unwrap();
    stage(&store, &mut staging, "b", vec![2.0; 500]).unwrap();
    let staged = store.status().memory_bytes - bytes;
    assert!((1_000..1_500).contains(&staged), "{staged}");
    let refused = (0..10).find_map(|n| store.store(episode(&format!("c{n}"), 1.0)).err()).unwrap();
    assert!(matches!(refused, StoreError::MemoryLimitReached { .. }), "{refused}");
    let now = store.status().memory_bytes;
    drop(staging);
    assert_eq!(store.status().memory_bytes, now - staged);
}

#[test]
fn a_change_that_the_disk_has_no_room_for_changes_nothing_and_can_be_tried_again() {
    let sim = SimDisk::new(1);
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let store = MemoryStore::new(100).with_dimension(4).unwrap();
    let store = store.with_log(Arc::new(disk.clone()), options()).unwrap();
    store.store(episode("a", 1.0)).unwrap();
    let before = everything(&store);
    let mut staging = store.begin_staging(2).unwrap();
    stage(&store, &mut staging, "a", vec![1.0, 0.5]).unwrap();
    disk.fail_from(Operation::Write, 1, Fault::NoSpace);
    let full = store.begin_change().make(&mut staging, model("new")).unwrap_err();
    assert!(matches!(full, StoreError::Storage(StorageError::DiskFull { .. })), "{full}");
    assert_eq!((everything(&store), staging.count()), (before, 1));
    disk.heal();
    store.sync().unwrap();
    store.begin_change().make(&mut staging, model("new")).unwrap();
    store.log_staged(&staging).unwrap();
    let live = everything(&store);
    assert_eq!(live[0].1.as_ref().unwrap().dimension(), 2);
    drop(store);
    let again = MemoryStore::new(100).with_log(Arc::new(sim), options()).unwrap();
    assert_eq!(everything(&again), live);
}

#[test]
fn the_index_of_the_new_vectors_takes_the_place_of_the_old_one_in_its_file() {
    let disk = SimDisk::new(5);
    let vector = |n: u16, by: u16| -> Vec<f32> {
        (0..128).map(|i| f32::from((n % 64 * 31 + i * by + n / 64 * (i % 7)) % 101) - 50.0).collect()
    };
    let open = || {
        let store = MemoryStore::new(10_000).with_dimension(128).unwrap().with_index(IndexMode::Ivf).unwrap();
        let options = WalOptions { fsync: FsyncMode::None, ..WalOptions::default() };
        store.with_log(Arc::new(disk.clone()), options).unwrap()
    };
    let store = open();
    let await_lists = |store: &MemoryStore| {
        while store.status().index.lists == 0 {
            std::thread::yield_now();
        }
    };
    for n in 0..9_000 {
        let embedding = Some(vector(n, 17).into());
        drop(store.store(Episode { embedding, ..Episode::text(n.to_string(), "it") }).unwrap());
    }
    await_lists(&store);
    let mut staging = store.begin_staging(128).unwrap();
    for n in 0..9_000 {
        stage(&store, &mut staging, &n.to_string(), vector(n, 19)).unwrap();
    }
    store.change_model(staging, model("new")).unwrap();
    await_lists(&store);
    store.close().unwrap();
    drop(store);
    let store = open();
    assert!(store.status().index.lists > 0, "it is not made anew");
    assert_eq!(store.status().unembedded, 0);
}

#[test]
fn vectors_of_nobody_make_room_for_those_of_the_first_model() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let given = |store: &MemoryStore| {
        let embedding = Some(vec![1.0, 0.0, 0.0, 0.0].into());
        store.store(Episode { embedding, ..Episode::text("a", "it") }).unwrap();
    };
    given(&store);
    for model_and_vector in [("new", vec![0.0, 1.0, 0.0, 0.0]), ("new", vec![0.0, 0.0, 1.0, 0.0])] {
        let (name, vector) = model_and_vector;
        let mut staging = store.begin_staging(4).unwrap();
        stage(&store, &mut staging, "a", vector.clone()).unwrap();
        store.change_model(staging, model(name)).unwrap();
        let (_, embedding) = store.get_with_embedding("a").unwrap();
        assert_eq!(embedding, Some(Embedding::from(vector)));
        let live = everything(&store);

        assert_eq!(live.len(), 1);
    }
}

/// A store of the model that it says, with whatever form.
fn reopen(disk: &SimDisk) -> MemoryStore {
    MemoryStore::new(100).with_log(Arc::new(disk.clone()), options()).unwrap()
}

#[test]
fn vectors_of_two_models_are_not_mixed_when_the_record_of_the_change_is_lost() {
    for dimension in [4, 2] {
        let disk = SimDisk::new(1);
        let store = open(&disk);
        store.set_model(model("old")).unwrap();
        for id in ["a", "b", "c"] {
            store.store(episode(id, 1.0)).unwrap();
        }
        let mut staging = store.begin_staging(dimension).unwrap();
        for id in ["a", "b"] {
            stage(&store, &mut staging, id, vec![0.5; dimension]).unwrap();
        }
        let change = store.change_model(staging, model("new")).unwrap().lsn;
        let live = everything(&store);
        assert_eq!(live.iter().filter(|(_, embedding)| embedding.is_some()).count(), 2);
        drop(store);

        lose(&disk, change);
        let store = reopen(&disk);
        assert_eq!((everything(&store), store.status().model), (live.clone(), Some(model("new"))));
        assert_eq!(store.status().recovery.unwrap().lost_records, 1);
        drop(store);

        // The second record of it, and the embedding of one of the two, which must not be that of before.
        lose(&disk, Lsn::new(change.get() + 1));
        lose(&disk, Lsn::new(change.get() + 3));
        let store = reopen(&disk);
        assert_eq!((store.status().model, store.status().dimension), (None, dimension));
        let embeddings: Vec<_> =
            everything(&store).into_iter().filter_map(|(_, embedding)| embedding).collect();
        assert_eq!(embeddings, [Embedding::from(vec![0.5; dimension])]);
        let mut audit = LogAudit::new();
        for record in WalReader::open(Arc::new(disk.clone())).iter().flatten() {
            audit.read(&record).unwrap();
        }
        assert_eq!(audit.memories(), 3);
        store.set_model(model("new")).unwrap();
        store.snapshot().unwrap();
        let live = everything(&store);
        drop(store);
        // The first record of the snapshot says how the store is made; so does its last.
        spoil_snapshot(&disk, |_| 512 + 64);
        let store = reopen(&disk);
        assert_eq!(store.status().recovery.unwrap().lost_records, 1);
        assert_eq!((everything(&store), store.status().model), (live, Some(model("new"))));
    }
}

#[test]
fn what_was_on_its_way_when_the_model_changed_has_no_embedding_after_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let release = hold(&store);
    let config = Config { model: Some(model("new")), generation: 1, ..store.state.config() };
    let change = store.submit_entry(&Arc::from("config"), encode(Record::Config(config)).unwrap());
    let stored = store.default_space().submit(episode("a", 1.0), &WriteOptions::default());
    drop(release);
    assert!(change.wait().unwrap().lsn < stored.wait().unwrap().lsn);
    assert_eq!(store.get_with_embedding("a").unwrap().1, None, "it is of the model before");
    let again = encode(Record::Config(store.state.config())).unwrap();
    store.submit_entry(&Arc::from("config"), again).wait().expect("it may be said twice");
    let live = everything(&store);
    drop(store);
    assert_eq!(everything(&reopen(&disk)), live);
}

#[test]
fn a_memory_that_a_damaged_log_kept_back_has_no_embedding_of_the_model_before() {
    for dimension in [4, 2] {
        let disk = SimDisk::new(1);
        let store = open(&disk);
        let made = store.make_space("s", None).unwrap().lsn;
        store.space("s").unwrap().store(episode("a", 1.0)).unwrap();
        let staging = store.begin_staging(dimension).unwrap();
        store.change_model(staging, model("new")).unwrap();
        drop(store);
        lose(&disk, made);
        let store = reopen(&disk);
        let (memory, embedding) = store.space("s").unwrap().get_with_embedding("a").unwrap();
        assert_eq!((memory.content(), embedding, memory.has_embedding()), ("content 1 of a", None, false));
    }
}
