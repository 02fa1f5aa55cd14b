use super::read::Found;
use super::*;
use crate::core::action::Streak;
use crate::core::clock::{Millis, Mono, Wall};
use crate::core::name::RunId;
use crate::core::record::{Cause, CauseCount, Confidence, Evidence, Memory, Next, NextAction, Record, Tally};
use crate::core::spec::Policy;
use crate::core::why::Filter;

const OLDEST: &str = include_str!("../../../tests/fixtures/journal-v1.jsonl");
const BACKLOG: &str = include_str!("../../../tests/fixtures/backlog-v1.txt");
const CARRIED: &str = include_str!("../../../tests/fixtures/journal-carried-v1.jsonl");

/// A journal in a folder of its own, and what was counted in it.
struct World {
    home: tempfile::TempDir,
    journal: Journal,
    /// What the keeper holds.
    backlog: OwnedFd,
    tallies: BTreeMap<u32, Tally>,
    runs: u64,
    keep: u32,
}

impl World {
    fn new(keep: u32) -> World {
        let home = tempfile::tempdir().unwrap();
        let backlog = memory();
        let journal = Journal::open(home.path(), backlog.try_clone().unwrap()).unwrap();
        World { home, journal, backlog, tallies: BTreeMap::new(), runs: 0, keep }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("journal/web.jsonl")
    }

    /// Another daemon begins.
    fn again(&mut self) {
        self.journal = Journal::open(self.home.path(), self.backlog.try_clone().unwrap()).unwrap();
    }

    /// A file stands in the place of the journal's folder.
    fn cannot_write(&self, cannot: bool) {
        let (folder, aside) = (self.home.path().join("journal"), self.home.path().join("aside"));
        if cannot {
            std::fs::rename(&folder, aside).unwrap();
            std::fs::write(folder, "").unwrap();
        } else {
            std::fs::remove_file(&folder).unwrap();
            std::fs::rename(aside, folder).unwrap();
        }
    }

    fn kept(&self) -> Vec<u8> {
        file::read_memory_file(self.backlog.try_clone().unwrap()).unwrap()
    }

    fn write(&mut self, id: u32, entry: Entry) {
        let line = Line {
            instance: format!("web-{id}"),
            id: Id(id),
            run: RunId(self.runs),
            seq: self.runs,
            tally: self.tallies.entry(id).or_default().clone(),
            streak: Streak::default(),
            later: None,
            entry,
        };
        self.journal.write(&app(), &line, self.keep);
    }

    fn start(&mut self, id: u32) {
        self.runs += 1;
        self.write(id, Entry::Start { pid: 7, at: Wall(self.runs as i64 * 1000) });
    }

    fn end(&mut self, id: u32, cause: Cause) {
        let record = record(&format!("web-{id}#{}", self.runs), cause, self.runs as i64 * 1000);
        self.tallies.entry(id).or_default().count(&record);
        self.write(id, Entry::End { record: Box::new(record), at: Mono(self.runs) });
    }

    fn run(&mut self, id: u32, cause: Cause) {
        self.start(id);
        self.end(id, cause);
    }

    fn find(&self, filter: Filter, last: Option<usize>) -> Found {
        let ids: BTreeMap<Id, String> = self.tallies.keys().map(|id| (Id(*id), format!("web-{id}"))).collect();
        let rows: Vec<CauseCount> = Tally::merged(self.tallies.values()).by_cause;
        self.journal.reader(&app(), self.keep).find(&Asked { ids, filter, last, rows, policy: Policy::default() })
    }

    fn all(&self) -> Vec<String> {
        self.find(Filter::default(), None).records.into_iter().map(|record| record.run).collect()
    }

    fn tally(&self, id: u32) -> Option<Tally> {
        self.journal.tails().get(&Id(id)).map(|tail| tail.last.tally.clone())
    }
}

fn memory() -> OwnedFd {
    file::memory_file(c"test", &[]).unwrap()
}

fn app() -> AppName {
    AppName::parse("web").unwrap()
}

fn record(run: &str, cause: Cause, at: i64) -> Record {
    Record {
        run: run.into(),
        instance: run.split('#').next().unwrap().into(),
        pid: Some(7),
        started_at: Some(Wall(at - 200)),
        ended_at: Wall(at),
        uptime_ms: Some(Millis(200)),
        cause,
        planned: false,
        confidence: Confidence::Certain,
        summary: "exited with code 1 after 200 ms".into(),
        exit_code: Some(1),
        signal: None,
        core_dumped: false,
        signature: None,
        actor: None,
        memory: Memory::default(),
        evidence: Evidence::default(),
        left_behind: 0,
        next: Next { action: NextAction::Restart, delay_ms: Some(Millis(0)), reason: "autorestart".into() },
    }
}

fn readable(text: &str) -> usize {
    text.lines().filter(|line| Glimpse::of(line.as_bytes()).is_some()).count()
}

#[test]
fn the_oldest_form_is_read() {
    assert_eq!(readable(OLDEST), OLDEST.lines().count());
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("journal")).unwrap();
    std::fs::write(home.path().join("journal/web.jsonl"), OLDEST).unwrap();
    let lines = OLDEST.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    assert_eq!(Journal::open(home.path(), memory()).unwrap().tails(), recover::tails(lines));
}

#[test]
fn the_oldest_form_of_a_file_that_follows_another_is_read() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("journal")).unwrap();
    std::fs::write(home.path().join("journal/web.jsonl"), CARRIED).unwrap();
    let journal = Journal::open(home.path(), memory()).unwrap();
    let shelf = &journal.shelves[&app()];
    assert_eq!((shelf.ends, shelf.whole, shelf.places.len()), (1, true, 2), "{shelf:?}");
    assert_eq!(journal.tails()[&Id(2)].last.tally.total, 2);
}

#[test]
fn a_journal_that_is_torn_anywhere_gives_its_whole_lines_and_the_torn_one_is_kept_aside() {
    let text: String = OLDEST.split_inclusive('\n').take(4).collect();
    for end in (0..text.len()).step_by(37) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("journal");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("web.jsonl"), &text[..end]).unwrap();
        let journal = Journal::open(home.path(), memory()).unwrap();
        let whole = text[..end].rfind('\n').map_or(0, |at| at + 1);
        let lines = text[..whole].lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
        assert_eq!(journal.tails(), recover::tails(lines), "{end}");
        let torn = std::fs::read_to_string(folder.join("web.jsonl.torn")).unwrap_or_default();
        assert_eq!(torn.strip_suffix('\n').unwrap_or_default(), &text[whole..end]);
        assert_eq!(std::fs::read_to_string(folder.join("web.jsonl")).unwrap(), &text[..whole]);
    }
}

#[test]
fn a_last_line_that_only_lacks_its_line_break_is_whole() {
    let mut world = World::new(10);
    world.run(0, Cause::ExitCode);
    let text = std::fs::read_to_string(world.path()).unwrap();
    std::fs::write(world.path(), text.trim_end()).unwrap();
    world.again();
    world.run(0, Cause::Signal);
    assert_eq!(world.all(), ["web-0#2", "web-0#1"]);
}

#[test]
fn a_line_of_a_newer_version_and_one_of_somebody_else_are_passed_over_and_said() {
    let mut world = World::new(10);
    world.run(0, Cause::ExitCode);
    let text = std::fs::read_to_string(world.path()).unwrap();
    let newer = text.lines().last().unwrap().replacen("\"v\":1", "\"v\":2", 1);
    std::fs::write(world.path(), format!("{text}{newer}\nnot json\n\n")).unwrap();
    world.again();
    world.run(0, Cause::ExitCode);
    let found = world.find(Filter::default(), None);
    assert_eq!(found.records.len(), 2);
    assert!(found.notes[0].starts_with("2 lines of "), "{:?}", found.notes);
    assert!(found.notes[0].ends_with("were passed over: torn, or written by a newer stead"), "{:?}", found.notes);
}

#[test]
fn a_journal_that_cannot_be_read_is_kept_aside_and_a_new_one_begins() {
    for at_begin in [true, false] {
        let mut world = World::new(10);
        world.run(0, Cause::ExitCode);
        std::fs::rename(world.path(), world.home.path().join("old")).unwrap();
        std::fs::create_dir(world.path()).unwrap();
        if at_begin {
            world.again();
        }
        world.run(0, Cause::ExitCode);
        assert!(!world.journal.is_behind());
        assert_eq!(world.all(), ["web-0#2"]);
        assert!(world.path().with_extension("jsonl.unreadable.1").is_dir());
        assert_eq!(world.tally(0).unwrap().total, 2, "what was counted goes on");
    }
}

#[test]
fn a_journal_that_cannot_be_written_keeps_no_other_waiting() {
    let mut world = World::new(10);
    // No device has room here, and nothing can be renamed from it.
    std::os::unix::fs::symlink("/dev/full", world.path()).unwrap();
    world.run(0, Cause::ExitCode);
    assert!(world.journal.is_behind());
    let other = Line { instance: "api".into(), id: Id(9), ..world_line() };
    world.journal.write(&AppName::parse("api").unwrap(), &other, 10);
    assert!(world.home.path().join("journal/api.jsonl").exists());
    let found = world.find(Filter::default(), None);
    assert_eq!(found.records.len(), 1, "what waits in memory is told as well");
    assert!(found.notes[0].contains("No space left on device"), "{:?}", found.notes);
    std::fs::remove_file(world.path()).unwrap();
    world.journal.flush();
    assert!(!world.journal.is_behind());
    assert_eq!(world.all(), ["web-0#1"]);
}

#[test]
fn what_waits_outlives_the_daemon_in_its_order_and_is_written_once() {
    let mut world = World::new(10);
    world.run(0, Cause::Signal);
    world.cannot_write(true);
    world.run(0, Cause::ExitCode);
    let other = Line { instance: "api".into(), id: Id(9), ..world_line() };
    world.journal.write(&AppName::parse("api").unwrap(), &other, 10);
    world.run(0, Cause::ExitCode);
    for _ in 0..2 {
        world.again();
        assert!(world.journal.is_behind());
        assert_eq!(world.all(), ["web-0#3", "web-0#2"], "the first is on the disk, which cannot be read here");
        assert_eq!(world.kept().iter().filter(|byte| **byte == b'\n').count(), 5);
    }
    let kept = world.kept();
    world.cannot_write(false);
    world.run(0, Cause::Signal);
    assert!(!world.journal.is_behind());
    assert_eq!(world.kept(), b"");
    assert!(world.home.path().join("journal/api.jsonl").exists());
    let all = ["web-0#4", "web-0#3", "web-0#2", "web-0#1"];
    assert_eq!(world.all(), all);
    // A daemon that died before it took out what it had written, and while it added a line.
    for end in [&b""[..], b"web\t10\t{\"v\":1,", b"web"] {
        world.backlog = file::memory_file(c"test", &[&kept, end].concat()).unwrap();
        world.again();
        assert_eq!(world.all(), all);
        assert!(!world.journal.is_behind());
        assert_eq!(world.tally(0).unwrap().total, 4);
    }
}

#[test]
fn what_waits_takes_no_more_memory_however_long() {
    use std::os::unix::fs::MetadataExt;
    let mut world = World::new(10);
    world.cannot_write(true);
    let pages = |world: &World| File::from(world.backlog.try_clone().unwrap()).metadata().unwrap().blocks();
    // Two lines each.
    (0..MOST_WAITING / 2).for_each(|_| world.run(0, Cause::Signal));
    let most = pages(&world);
    (0..MOST_WAITING / 2).for_each(|_| world.run(0, Cause::Signal));
    // The numbers in them grow.
    assert!(pages(&world) <= most * 5 / 4, "{} after {most}", pages(&world));
    world.again();
    assert_eq!(world.journal.waiting.len(), MOST_WAITING);
    assert_eq!(world.tally(0).unwrap().total as usize, MOST_WAITING, "the oldest are lost, the counts are not");
}

/// The oldest form of what one daemon leaves to the next.
#[test]
fn a_backlog_of_version_1_is_read() {
    let backlog = file::memory_file(c"test", BACKLOG.as_bytes()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let journal = Journal::open(home.path(), backlog).unwrap();
    assert!(!journal.is_behind());
    let written = std::fs::read_to_string(home.path().join("journal/web.jsonl")).unwrap();
    let lines: String = BACKLOG.lines().map(|line| format!("{}\n", line.splitn(3, '\t').nth(2).unwrap())).collect();
    assert_eq!(written, lines);
}

fn world_line() -> Line {
    Line {
        instance: "web-0".into(),
        id: Id(0),
        run: RunId(1),
        seq: 1,
        tally: Tally::default(),
        streak: Streak::default(),
        later: None,
        entry: Entry::Asked { at: Wall(0) },
    }
}

#[test]
fn so_many_records_are_kept_and_the_counts_outlive_them() {
    let mut world = World::new(5);
    world.run(1, Cause::Lost);
    world.start(1);
    for _ in 0..33 {
        world.run(0, Cause::ExitCode);
        assert!(world.journal.shelves[&app()].ends < 5);
    }
    let newest: Vec<String> = (0..5).map(|back| format!("web-0#{}", 35 - back)).collect();
    assert_eq!(world.all(), newest);
    let before = world.journal.shelves.clone();
    world.again();
    assert_eq!(world.journal.shelves, before, "what is remembered is what can be read");
    let tails = world.journal.tails();
    assert_eq!(tails[&Id(0)].last.tally.total, 33);
    let quiet = &tails[&Id(1)];
    assert_eq!((quiet.last.tally.total, !quiet.open.is_empty(), quiet.last_end.is_some()), (1, true, true));
    let found = world.find(Filter::default(), None);
    assert_eq!((found.kept, found.records.len()), (Some(5), 5), "a record that was carried over is no second one");
}

#[test]
fn a_new_file_that_was_lost_or_torn_begins_from_the_one_before() {
    let mut world = World::new(3);
    world.run(1, Cause::Lost);
    for _ in 0..2 {
        world.run(0, Cause::ExitCode);
    }
    let text = std::fs::read_to_string(world.path()).unwrap();
    assert!(text.lines().all(|line| line.contains("\"carried\"")), "{text}");
    for left in [None, Some(0), Some(40), Some(text.find('\n').unwrap() + 1)] {
        match left {
            None => std::fs::remove_file(world.path()).unwrap(),
            Some(length) => std::fs::write(world.path(), &text[..length]).unwrap(),
        }
        world.again();
        let totals = (world.tally(0).map(|tally| tally.total), world.tally(1).map(|tally| tally.total));
        assert_eq!(totals, (Some(2), Some(1)), "{left:?}");
        assert_eq!(world.all(), ["web-0#3", "web-0#2", "web-1#1"]);
    }
}

#[test]
fn a_journal_that_somebody_emptied_or_removed_goes_on() {
    for gone in [true, false] {
        let mut world = World::new(5);
        world.run(0, Cause::ExitCode);
        world.run(0, Cause::ExitCode);
        if gone {
            std::fs::remove_file(world.path()).unwrap();
        } else {
            std::fs::write(world.path(), "").unwrap();
        }
        world.run(0, Cause::Signal);
        assert_eq!(world.all(), ["web-0#3"]);
        assert_eq!(world.tally(0).unwrap().total, 3);
        world.again();
        assert_eq!(world.tally(0).unwrap().total, 3);
    }
}

#[test]
fn an_instance_of_old_whose_name_is_anothers_now_is_not_carried_on() {
    let mut world = World::new(2);
    let mut line = world_line();
    for id in 0..20 {
        line.id = Id(id);
        world.journal.write(&app(), &line, 2);
        world.journal.write(&app(), &Line { entry: end_entry(), ..line.clone() }, 2);
    }
    assert!(world.journal.shelves[&app()].places.len() <= 3, "{:?}", world.journal.shelves);
}

fn end_entry() -> Entry {
    Entry::End { record: Box::new(record("web-0#1", Cause::ExitCode, 5)), at: Mono(1) }
}

#[test]
fn a_reset_hides_what_was_before_it_and_filters_hold_together() {
    let mut world = World::new(100);
    world.run(0, Cause::ExitCode);
    world.tallies.insert(0, Tally::default());
    world.write(0, Entry::Reset { at: Wall(1500) });
    for cause in [Cause::Signal, Cause::ExitCode, Cause::Signal] {
        world.run(0, cause);
    }
    world.run(1, Cause::Signal);
    assert_eq!(world.all(), ["web-1#5", "web-0#4", "web-0#3", "web-0#2"]);
    let signals = Filter { causes: vec![Cause::Signal], since: Some(Wall(3000)), run: None };
    let found = world.find(signals, Some(1));
    assert_eq!((found.records.len(), found.records[0].run.as_str(), found.by_cause[0].count), (1, "web-1#5", 2));
    assert_eq!(found.kept, Some(4));
    let one = world.find(Filter { run: Some("web-0#3".into()), ..Filter::default() }, None);
    assert_eq!((one.records.len(), one.by_cause[0].cause), (1, Cause::ExitCode));
    assert!(one.examples.contains_key(&(Cause::ExitCode, None)));
}

#[test]
fn a_loop_is_found_behind_the_newest_record() {
    let mut world = World::new(100);
    for _ in 0..12 {
        world.run(0, Cause::ExitCode);
    }
    let found = world.find(Filter::default(), Some(1));
    assert_eq!((found.records.len(), found.loops.len(), found.loops[0].restarts), (1, 1, 12));
}

#[test]
fn lines_longer_than_a_block_are_read_backwards_too() {
    let mut world = World::new(100);
    world.run(0, Cause::ExitCode);
    let mut record = record("web-0#2", Cause::ExitCode, 2000);
    record.evidence.stderr_tail = vec!["x".repeat(700_000)];
    let line = Line { entry: Entry::End { record: Box::new(record), at: Mono(2) }, ..world_line() };
    world.journal.write(&app(), &line, 100);
    world.run(0, Cause::ExitCode);
    assert_eq!(world.all(), ["web-0#2", "web-0#2", "web-0#1"]);
}
