//! What SQLite says of a database that another has locked, and which locks keep others out. Source: SQLite's `os.h` (rollback
//! journal) and `wal.c` (write-ahead log).

/// The words of SQLite itself (`sqlite3ErrStr(SQLITE_BUSY)`); Python, Node.js, Go and Rust pass them on.
pub const LOCKED: &str = "database is locked";

/// Does a text say that a database was locked?
#[must_use]
pub fn is_locked(text: &str) -> bool {
    text.contains(LOCKED) || text.contains("SQLITE_BUSY")
}

/// One of a database's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Main,
    /// `-shm`, the index of a write-ahead log; there is one only where the database has such a log.
    Index,
}

/// A lock on bytes of a database's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteLock {
    pub part: Part,
    pub write: bool,
    /// First and last byte.
    pub range: (u64, u64),
}

/// PENDING_BYTE; RESERVED follows it, then 510 SHARED ones.
const PENDING: u64 = 1 << 30;
const LAST_SHARED: u64 = PENDING + 511;

/// WALINDEX_LOCK_OFFSET: the writer's byte, the checkpointer's, that of recovery; readers follow.
const WRITER: u64 = 120;
const RECOVERY: u64 = 122;

/// How much a lock keeps others from writing; `None`: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// A reader: a writer cannot commit (rollback journal).
    Shared,
    /// A writer.
    Exclusive,
}

/// What a lock means to others. `has_log`: the database has a write-ahead log, with which readers disturb nobody.
#[must_use]
pub fn hold(lock: ByteLock, has_log: bool) -> Option<Hold> {
    let touches = |first, last| lock.range.0 <= last && lock.range.1 >= first;
    match (lock.part, lock.write) {
        (Part::Main, true) => touches(PENDING, LAST_SHARED).then_some(Hold::Exclusive),
        (Part::Main, false) => (!has_log && touches(PENDING, LAST_SHARED)).then_some(Hold::Shared),
        (Part::Index, true) => touches(WRITER, RECOVERY).then_some(Hold::Exclusive),
        (Part::Index, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_passes_sqlites_words_on() {
        for text in [
            "sqlite3.OperationalError: database is locked",
            "django.db.utils.OperationalError: database is locked",
            "SqliteError: database is locked",
            "Error: SQLITE_BUSY: database is locked",
            "panic: database is locked (5) (SQLITE_BUSY)",
        ] {
            assert!(is_locked(text), "{text}");
        }
        assert!(!is_locked("sqlite3.OperationalError: no such table: x"));
    }

    #[test]
    fn a_writer_keeps_writers_out_and_a_reader_only_without_a_log() {
        let main = |write, first, last| ByteLock { part: Part::Main, write, range: (first, last) };
        let index = |write, byte| ByteLock { part: Part::Index, write, range: (byte, byte) };
        assert_eq!(hold(main(true, PENDING + 1, PENDING + 1), false), Some(Hold::Exclusive));
        assert_eq!(hold(main(true, PENDING, LAST_SHARED), true), Some(Hold::Exclusive));
        assert_eq!(hold(main(false, PENDING + 2, LAST_SHARED), false), Some(Hold::Shared));
        assert_eq!(hold(main(false, PENDING + 2, LAST_SHARED), true), None);
        assert_eq!(hold(main(true, 0, 10), false), None);
        assert_eq!(hold(index(true, 120), true), Some(Hold::Exclusive));
        assert_eq!(hold(index(false, 124), true), None);
        assert_eq!(hold(index(true, 128), true), None, "the byte that a dying connection holds");
    }
}
