//! Defects planted on purpose, so that the tests can show that they would find them.
//!
//! Each is one line at the place in the code that it spoils. Without the feature `planted-defects`, which only tests
//! turn on, `planted()` is a constant `false` and nothing of this is in the program.

/// One thing done wrong, as real logs have done it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A commit does not sync: it takes written for durable.
    NoFsync,
    /// A record is acknowledged before it is written.
    AckBeforeWrite,
    /// A new segment's name is not made durable.
    NoDirectorySync,
    /// A segment gets its name before its bytes are durable.
    NamedBeforeSynced,
    /// A failed sync is tried again, and its success believed.
    FsyncRetried,
    /// A failed sync is passed over.
    ErrorSwallowed,
    /// A start shows the end of the log without making it durable first.
    TailNotSynced,
    /// A payload's checksum is not looked at.
    ChecksumUnchecked,
    /// Records do not say what is durable, so damage looks like a torn tail.
    PromiseStuck,
    /// The first gap ends the log, whatever was promised behind it.
    DamageTakenForTorn,
    /// Damaged records are skipped and not reported.
    DamageUnreported,
    /// A start gives the number of its last record once more.
    LsnReused,
    /// A group shares its first sector with the end of the group before.
    SectorShared,
    /// What a snapshot stands for is removed before the snapshot's bytes are durable.
    SnapshotNotSynced,
    /// What a snapshot stands for is removed before the snapshot's name is durable.
    SnapshotDirectoryNotSynced,
    /// What a snapshot stands for is removed without a look at what was written.
    SnapshotNotVerified,
    /// A log is made of a snapshot without what is damaged in it.
    RestoredInPart,
}

#[cfg(feature = "planted-defects")]
mod switch {
    use std::sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use super::Defect;

    impl Defect {
        /// All of them.
        pub const ALL: [Self; 17] = [
            Self::NoFsync,
            Self::AckBeforeWrite,
            Self::NoDirectorySync,
            Self::NamedBeforeSynced,
            Self::FsyncRetried,
            Self::ErrorSwallowed,
            Self::TailNotSynced,
            Self::ChecksumUnchecked,
            Self::PromiseStuck,
            Self::DamageTakenForTorn,
            Self::DamageUnreported,
            Self::LsnReused,
            Self::SectorShared,
            Self::SnapshotNotSynced,
            Self::SnapshotDirectoryNotSynced,
            Self::SnapshotNotVerified,
            Self::RestoredInPart,
        ];
    }

    /// 0 is none, else one more than the place in `Defect::ALL`. A process may inherit one by its name, as in
    /// `ENGRAM_PLANTED_DEFECT=NoFsync`.
    static PLANTED: LazyLock<AtomicUsize> = LazyLock::new(|| {
        let name = std::env::var("ENGRAM_PLANTED_DEFECT").unwrap_or_default();
        let place = Defect::ALL.iter().position(|defect| format!("{defect:?}") == name);
        AtomicUsize::new(place.map_or(0, |place| place + 1))
    });

    /// From now on the whole process has this defect, or none.
    pub fn plant(defect: Option<Defect>) {
        let place = Defect::ALL.iter().position(|&one| Some(one) == defect);
        PLANTED.store(place.map_or(0, |place| place + 1), Relaxed);
    }

    pub(crate) fn planted(defect: Defect) -> bool {
        let place = PLANTED.load(Relaxed);
        place > 0 && Defect::ALL[place - 1] == defect
    }
}

#[cfg(feature = "planted-defects")]
pub use switch::plant;
#[cfg(feature = "planted-defects")]
pub(crate) use switch::planted;

/// Whether this defect is there.
#[cfg(not(feature = "planted-defects"))]
pub(crate) const fn planted(_: Defect) -> bool {
    false
}
