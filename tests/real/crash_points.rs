//! The daemon dies by SIGKILL between any two of its actions (`os/crash`), again and again, while apps crash, write and are started
//! and stopped. The apps keep a diary of their own, and at the end stead must say the same.

use crate::harness::{Said, Stead, daemon_of, eventually, eventually_within, is_alive, signal, until};
use serde_json::{Value, json};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stead::os::crash::{DEATHS, PLAN, POINTS};

/// Steads side by side: one alone would wait most of the time for its next death.
const FLEETS: usize = 4;

/// Writes numbered lines, each by one write, until SIGTERM; then tells how many they were. Not SIGINT: an interpreter that is just
/// beginning may swallow it.
const COUNTER: &str = "
from kit import *
RUN = os.environ['STEAD_RUN']
pause, width, linger = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
lock = alone()
done = []
signal.signal(signal.SIGTERM, lambda *_: done.append(1))
note(f'begin {RUN}')
n = 0
while not done:
    n += 1
    os.write(1, f'{RUN} {n} '.ljust(width, '.').encode() + b'\\n')
    time.sleep(pause)
time.sleep(linger)
os.write(2, f'{RUN} bye\\n'.encode())
note(f'end {RUN} {n} 9')
sys.exit(9)
";

/// Ends by itself, with a code by chance.
const CRASHER: &str = r#"#!/bin/sh
echo "begin $STEAD_RUN" >> $STEAD_NAME.diary
echo "$STEAD_RUN hello"
sleep $1
code=$(($$ % 7 + 1))
echo "$STEAD_RUN bye"
echo "$STEAD_RUN bye" >&2
echo "end $STEAD_RUN 0 $code" >> $STEAD_NAME.diary
exit $code
"#;

/// Leaves a child behind that is deaf to SIGTERM; the next run looks whether it still lives.
const PARENT: &str = r#"#!/bin/sh
if [ -e left ] && grep -q "STEAD_NAME=$STEAD_NAME" /proc/$(cat left)/environ 2>/dev/null; then
    echo "$STEAD_RUN" >> two.diary
fi
(trap '' TERM; exec sleep 1000) &
echo $! > left
exec ./crasher.sh 0.4
"#;

fn ecosystem() -> String {
    let crash = "min_uptime: 100, max_restarts: 100000, journal_keep: 100000";
    let turn = crash.replace("journal_keep: 100000", "journal_keep: 3");
    let mut file = "apps:\n".to_owned();
    let counter = "script: ./counter.py, kill_signal: SIGTERM, kill_timeout: 20s, journal_keep: 100000";
    for n in 0..2 {
        writeln!(file, "  - {{name: raw-{n}, {counter}, args: '0.02 20 0'}}").unwrap();
    }
    writeln!(file, "  - {{name: rotating, {counter}, args: '0.02 800 0', log_max_size: 32K, log_keep: 100}}").unwrap();
    writeln!(file, "  - {{name: timed, {counter}, args: '0.02 20 0', time: true}}").unwrap();
    writeln!(file, "  - {{name: both, {counter}, args: '0.02 20 0', log_file: both.log}}").unwrap();
    writeln!(file, "  - {{name: toggled, {counter}, args: '0.02 20 0'}}").unwrap();
    writeln!(file, "  - {{name: slow, {counter}, args: '0.04 20 0.3'}}").unwrap();
    file += "  - {name: scaled, script: /bin/sleep, args: '1000', instances: 1}\n";
    writeln!(file, "  - {{name: crasher, script: ./crasher.sh, args: '0.25', {crash}}}").unwrap();
    writeln!(file, "  - {{name: turning, script: ./crasher.sh, args: '0.2', {turn}}}").unwrap();
    writeln!(file, "  - {{name: waiting, script: ./crasher.sh, args: '0.2', {crash}, restart_delay: 300}}").unwrap();
    writeln!(file, "  - {{name: parent, script: ./parent.sh, {crash}, kill_signal: SIGTERM, kill_timeout: 200}}")
        .unwrap();
    file
}

/// Numbers by chance, the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n as u64) as usize
    }
}

/// A line for each death: every place in turn, in an order by chance.
fn plan(dice: &mut Dice, deaths: usize) -> String {
    let mut plan = String::new();
    let mut round: Vec<(&str, &str)> = Vec::new();
    let mut row = 0;
    for _ in 0..deaths {
        if round.is_empty() {
            round = POINTS.to_vec();
        }
        let mut at = dice.below(round.len());
        if row > 1 {
            // One that serves first.
            at = (0..round.len()).map(|n| (at + n) % round.len()).find(|n| !begins(round[*n])).unwrap_or(at);
        }
        let (side, what) = round.swap_remove(at);
        let begins = begins((side, what));
        // Who has served for a second is followed at once; a row of those who have not is waited for, longer each time.
        row = if begins || (row < 2 && dice.below(2) == 0) { row + 1 } else { 0 };
        let from = if row > 0 { 0 } else { 1_500 };
        let nth = if begins { 1 } else { 1 + dice.below(3) };
        writeln!(plan, "{side} {what} {nth} {from} 1500").unwrap();
    }
    plan
}

/// Is it a place on the way in?
fn begins((_, what): (&str, &str)) -> bool {
    ["greeting", "recover", "take-over"].contains(&what)
}

#[test]
fn a_daemon_that_dies_between_any_two_actions_loses_and_doubles_nothing() {
    let asked: Option<usize> = std::env::var("STEAD_CRASHES").ok().map(|count| count.parse().unwrap());
    let deaths = asked.unwrap_or(200) / FLEETS;
    let seed = match (std::env::var("STEAD_SEED").ok(), asked) {
        (Some(seed), _) => seed.parse().unwrap(),
        (None, Some(_)) => u64::from(std::process::id()),
        (None, None) => 1,
    };
    eprintln!("{deaths} deaths in each of {FLEETS} fleets, STEAD_SEED={seed}");
    let died: Vec<String> = std::thread::scope(|scope| {
        let fleets: Vec<_> = (0..FLEETS as u64)
            .map(|n| scope.spawn(move || suffers(&mut Dice(0x9E37_79B9_7F4A_7C15 ^ (seed * 100 + n)), deaths)))
            .collect();
        // What a fleet says of its end is said last: a CI that shows the end of the output shows it.
        let said = |why: Box<dyn Any + Send>| match why.downcast_ref::<String>() {
            Some(why) => panic!("{why}"),
            None => std::panic::resume_unwind(why),
        };
        fleets.into_iter().flat_map(|fleet| fleet.join().unwrap_or_else(said)).collect()
    });
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for place in &died {
        *places.entry(place).or_default() += 1;
    }
    eprintln!("{} deaths: {places:?}", died.len());
    let all = POINTS.iter().map(|(side, what)| format!("{side} {what}"));
    let missed: Vec<String> = all.filter(|place| !places.contains_key(place.as_str())).collect();
    assert!(missed.is_empty(), "nobody died {missed:?}");
}

/// One fleet and its deaths; returns the places.
fn suffers(dice: &mut Dice, deaths: usize) -> Vec<String> {
    let stead = Stead::new();
    stead.kit();
    stead.file("counter.py", COUNTER);
    stead.file("crasher.sh", CRASHER);
    stead.file("parent.sh", PARENT);
    stead.file("extra.yaml", "apps:\n  - {name: extra, script: /bin/sleep, args: '1000'}\n");
    stead.start(&ecosystem());
    let untouched = ["raw-0", "raw-1", "rotating", "timed", "both"];
    let before = untouched.map(|name| stead.pid(name));
    let died = || -> Vec<String> {
        let text = std::fs::read_to_string(stead.home.join(DEATHS)).unwrap_or_default();
        text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    std::fs::write(stead.home.join(PLAN), plan(dice, deaths)).unwrap();
    stead.kill_daemon();

    let over = AtomicBool::new(false);
    let wishes = std::thread::scope(|scope| {
        let clients = scope.spawn(|| wish(&stead, dice, &over));
        let limit = Duration::from_secs(60 + 5 * deaths as u64);
        let mut seen = 0;
        while seen < deaths && !clients.is_finished() {
            seen = eventually_within(limit, "the next death", || match died().len() {
                count if count > seen || clients.is_finished() => Ok(count),
                count => Err(format!("{count} deaths\n{}", stead.own_log())),
            });
        }
        over.store(true, Ordering::Relaxed);
        clients.join().unwrap()
    });

    // What is to go on goes on.
    for name in ["crasher", "turning", "waiting", "parent"] {
        let lines = stead.diary(name).len();
        until(&format!("{name} goes on"), || stead.diary(name).len() > lines + 2);
    }
    for (name, pid) in untouched.iter().zip(before) {
        let one = stead.instance(name);
        assert_eq!((&one["pid"], &one["restarts"]), (&json!(pid), &json!(0)), "{name}");
    }
    let list = stead.json(["list", "--json"]);
    let of = |app: &str| list.as_array().unwrap().iter().filter(|one| one["app"] == app).collect::<Vec<_>>();
    assert_eq!(of("scaled").len(), wishes.scaled, "{list:#}");
    assert_eq!(of("extra").len(), usize::from(wishes.extra), "{list:#}");
    for one in of("scaled").into_iter().chain(of("extra")) {
        assert!(is_alive(one["pid"].as_i64().unwrap() as i32), "{one:#}");
    }
    stead.ok(["stop", "all"]);
    let died = died();
    let most = died.len() + 1;
    for name in ["raw-0", "raw-1", "rotating", "toggled", "slow"] {
        assert_lines(&stead, name, &stead.home.join(format!("logs/{name}.out.log")), 0);
    }
    assert_indexed(&stead.home.join("logs"));
    assert_lines(&stead, "timed", &stead.home.join("logs/timed.out.log"), most);
    assert_lines(&stead, "both", &stead.home.join("logs/both.out.log"), 0);
    assert_lines(&stead, "both", &stead.work.join("both.log"), most);
    for name in ["crasher", "turning", "waiting", "parent"] {
        assert_said(&stead, name);
    }
    for name in ["crasher", "waiting", "parent", "toggled", "slow", "raw-0"] {
        assert_records(&stead, name);
    }
    assert_counted(&stead, "turning");
    assert_eq!(stead.diary("two"), [""; 0], "two runs of an instance lived at once");
    assert_eq!(stead.processes().len(), 2, "keeper and daemon");
    // The kernel may call a group busy for a moment after its last process was reaped; the daemon's next beat tries again.
    eventually("no group of a run is left behind", || {
        let leaves: Vec<PathBuf> = stead.groups().iter().flat_map(|group| leaves(group)).collect();
        if leaves.is_empty() { Ok(()) } else { Err(format!("{leaves:?}")) }
    });
    died
}

/// What the clients wished last, and were told that it is done.
struct Wishes {
    scaled: usize,
    extra: bool,
}

fn wish(stead: &Stead, dice: &mut Dice, over: &AtomicBool) -> Wishes {
    let mut wishes = Wishes { scaled: 1, extra: false };
    while !over.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(50));
        match dice.below(6) {
            0 => {
                asked(stead, &["stop", "toggled"]);
                let diary = stead.diary("toggled");
                let (begun, ended): (Vec<_>, Vec<_>) = diary.iter().partition(|line| line.starts_with("begin"));
                assert_eq!(begun.len(), ended.len(), "`stop` is done, and a run goes on");
                asked(stead, &["start", "toggled"]);
            }
            1 => restart(stead, "toggled"),
            2 => restart(stead, "slow"),
            3 => {
                wishes.scaled = 1 + dice.below(3);
                asked(stead, &["scale", "scaled", &wishes.scaled.to_string()]);
            }
            4 if wishes.extra => {
                asked(stead, &["delete", "extra"]);
                wishes.extra = false;
            }
            4 => {
                asked(stead, &["start", "extra.yaml"]);
                wishes.extra = true;
            }
            _ => {
                asked(stead, &["list"]);
                asked(stead, &["save"]);
            }
        }
    }
    wishes
}

/// What a client may say where daemons die in a row: the connection broke six times, or nobody was there for 10 s, on a busy machine.
fn gave_up(said: &Said) -> bool {
    let words = ["breaks again and again", "no daemon answers within 10 s"];
    said.status == Some(1) && words.iter().any(|words| said.stderr.contains(words))
}

/// Asks until it is done.
fn asked(stead: &Stead, words: &[&str]) {
    loop {
        let said = stead.run(words);
        if said.status == Some(0) {
            return;
        }
        assert!(gave_up(&said), "{words:?}: {said:#?}\n{}", stead.own_log());
    }
}

/// Its outcome may be unknown, and then is said to be.
fn restart(stead: &Stead, name: &str) {
    let said = stead.run(["restart", name]);
    let unknown = said.status == Some(1) && said.stderr.starts_with("error: outcome unknown");
    assert!(said.status == Some(0) || unknown || gave_up(&said), "{said:#?}\n{}", stead.own_log());
}

/// The runs of a diary that have ended, with what they said of their end: a number of lines, an exit code.
fn ended(stead: &Stead, name: &str) -> BTreeMap<String, (usize, i64)> {
    let mut ended = BTreeMap::new();
    let mut begun = BTreeSet::new();
    let mut lives: Option<String> = None;
    for line in stead.diary(name) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin", run] => {
                assert!(begun.insert(run.to_owned()), "{run} began twice");
                lives = Some(run.to_owned());
            }
            ["end", run, lines, code] => {
                assert_eq!(lives.take().as_deref(), Some(run), "{run} overlaps");
                ended.insert(run.to_owned(), (lines.parse().unwrap(), code.parse().unwrap()));
            }
            _ => panic!("{line}"),
        }
    }
    ended
}

/// A log and those that were rotated away from it, oldest first.
fn whole(path: &Path) -> String {
    let older = |n: &usize| PathBuf::from(format!("{}.{n}", path.display()));
    // A death amid a rotation leaves a gap, which the next one fills.
    let files = (1..=100).rev().map(|n| older(&n)).filter(|path| path.exists()).chain([path.to_owned()]);
    files.map(|path| std::fs::read_to_string(&path).unwrap_or_default()).collect()
}

/// Every line of every run is there, in order, and at most `most` pieces are repeated.
fn assert_lines(stead: &Stead, name: &str, path: &Path, most: usize) {
    let log = whole(path);
    let mut reached: BTreeMap<&str, usize> = BTreeMap::new();
    let mut repeats = 0;
    let mut last = ("", 0);
    // As many are kept as may be: the oldest of a long run are gone.
    let mut is_cut = path.with_extension("log.99").exists();
    let mut end = 0;
    for line in log.split_inclusive('\n') {
        end += line.len();
        let line = line.trim_end_matches('\n');
        if line.ends_with(" bye") {
            continue;
        }
        // `time` puts a time and a colon before the line.
        let words: Vec<&str> = line.split(' ').collect();
        let at = usize::from(words[0].ends_with(':'));
        let (run, n) = (words[at], words.get(at + 1).and_then(|n| n.parse::<usize>().ok()));
        let Some(n) = n else {
            // A daemon that dies amid a write(2) leaves the head of the piece that is repeated, up to the end of a page.
            assert!(most > 0 && (end - 1) % 4096 == 0, "{}: {line:?} is no line of {name}", path.display());
            continue;
        };
        let far = reached.entry(run).or_default();
        if std::mem::take(&mut is_cut) {
            *far = n - 1;
        }
        assert!(n <= *far + 1, "{}: after line {far} of {run} comes {n}", path.display());
        if n <= *far && (run, n) != (last.0, last.1 + 1) {
            repeats += 1;
        }
        *far = n.max(*far);
        last = (run, n);
    }
    assert!(repeats <= most, "{}: {repeats} pieces are repeated, and {most} may be", path.display());
    for (run, (lines, _)) in ended(stead, name) {
        assert_eq!(reached.get(run.as_str()).copied().unwrap_or(0), lines, "{}: lines of {run}", path.display());
    }
}

/// An index knows the places of its own log, and no others.
fn assert_indexed(logs: &Path) {
    for entry in std::fs::read_dir(logs).unwrap().flatten() {
        let index = entry.path();
        let Some(log) = index.to_str().and_then(|path| path.strip_suffix(".idx")) else { continue };
        let size = std::fs::metadata(log).map_or(0, |meta| meta.len());
        let text = std::fs::read_to_string(&index).unwrap();
        let places = text.lines().map(|line| line.split_once(' ').unwrap().0.parse::<u64>().unwrap());
        let places: Vec<u64> = places.collect();
        assert!(places.is_sorted() && places.iter().all(|at| *at <= size), "{log} has {size} bytes: {places:?}");
    }
}

/// What each run of a crasher said is in the log once, in the order of the runs.
fn assert_said(stead: &Stead, name: &str) {
    let runs: Vec<String> =
        stead.diary(name).iter().filter_map(|line| Some(line.strip_prefix("begin ")?.to_owned())).collect();
    let ended = ended(stead, name);
    let log = stead.log(name, "out");
    let expected = runs.iter().flat_map(|run| {
        let bye = ended.contains_key(run).then(|| format!("{run} bye"));
        [format!("{run} hello")].into_iter().chain(bye)
    });
    let expected: Vec<String> = expected.collect();
    // The last run was stopped, maybe before it could say what it had noted, or note what it had said.
    let said: Vec<&str> = log.lines().collect();
    let at = said.iter().zip(&expected).position(|(one, other)| one != other);
    let near = at.unwrap_or(said.len().min(expected.len()));
    let shown = |all: &[String]| all[near.saturating_sub(3).min(all.len())..(near + 3).min(all.len())].to_vec();
    let said: Vec<String> = said.into_iter().map(str::to_owned).collect();
    let not_noted = runs.last().filter(|run| !ended.contains_key(*run)).map(|run| format!("{run} bye"));
    let more = said.get(expected.len()..).unwrap_or_default();
    let complete = match more {
        [] => said.len() + 1 >= expected.len(),
        [last] => Some(last) == not_noted.as_ref(),
        _ => false,
    };
    assert!(at.is_none() && complete, "{name}: {:?} instead of {:?}", shown(&said), shown(&expected));
}

fn records(stead: &Stead, name: &str) -> Vec<Value> {
    let why = stead.json(["why", name, "--json"]);
    let records = why["records"].as_array().unwrap().clone();
    assert_eq!(why["total"], records.len(), "{name}: counted, and kept");
    records
}

/// One record for each run, in order, with the exit code that its diary says.
fn assert_records(stead: &Stead, name: &str) {
    let diary = ended(stead, name);
    let records = records(stead, name);
    for (n, record) in records.iter().rev().enumerate() {
        assert_eq!(record["run"], format!("{name}#{}", n + 1), "{name}: a run without a record, or one with two");
        let run = record["run"].as_str().unwrap();
        match diary.get(run) {
            Some((_, code)) if record["signal"] == Value::Null => {
                assert_eq!(record["exit_code"], *code, "{record:#}");
                let tail = record["evidence"]["stderr_tail"].as_array().unwrap();
                assert_eq!(tail.last(), Some(&json!(format!("{run} bye"))), "{record:#}");
            }
            // It was ended from outside, before it could end by itself.
            _ => assert_eq!((&record["planned"], &record["cause"]), (&json!(true), &json!("manual")), "{record:#}"),
        }
    }
    let missing: Vec<&String> =
        diary.keys().filter(|run| !records.iter().any(|record| record["run"] == ***run)).collect();
    assert!(missing.is_empty(), "{name}: no record of {missing:?}");
}

/// The counters of an app whose older records are gone.
fn assert_counted(stead: &Stead, name: &str) {
    let diary = ended(stead, name);
    let why = stead.json(["why", name, "--json"]);
    // The last run was stopped, maybe after it had noted that it ends.
    let noted = diary.contains_key(why["records"][0]["run"].as_str().unwrap());
    let by_itself = diary.len() - usize::from(noted && why["records"][0]["cause"] == "manual");
    assert_eq!(why["unplanned"], by_itself, "{name}: {why:#}");
    assert_eq!(why["records"][0]["run"], format!("{name}#{}", why["total"]), "{why:#}");
}

fn leaves(group: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(group).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    folders.filter(|path| path.extension().is_some()).collect()
}

/// The next daemon dies at this place, and the one after it lives on.
fn dies(stead: &Stead, place: &str) {
    let _ = std::fs::remove_file(stead.home.join(DEATHS));
    std::fs::write(stead.home.join(PLAN), format!("{place} 1 0 1000000\n")).unwrap();
    stead.kill_daemon();
    stead.ping();
}

fn deaths(stead: &Stead) -> usize {
    std::fs::read_to_string(stead.home.join(DEATHS)).map_or(0, |text| text.lines().count())
}

#[test]
fn a_group_of_a_run_that_never_came_to_be_is_removed() {
    let stead = Stead::new();
    stead.start("apps:\n  - {name: web, script: /bin/sleep, args: '1000'}\n");
    dies(&stead, "amid spawn");
    stead.ok(["start", "/bin/sleep", "--name", "other", "--", "1000"]);
    assert_eq!(deaths(&stead), 1);
    let live = |leaf: &PathBuf| std::fs::read_to_string(leaf.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    let leaves: Vec<PathBuf> = stead.groups().iter().flat_map(|group| leaves(group)).collect();
    assert!(leaves.iter().all(live), "{leaves:?}");
    assert_eq!(stead.instance("other")["memory_enforcement"], stead.instance("web")["memory_enforcement"]);
}

#[test]
fn a_delete_whose_daemon_dies_is_done_and_says_so() {
    let stead = Stead::new();
    for place in ["after persist", "after note", "after journal", "before reply"] {
        stead.ok(["start", "/bin/sleep", "--name", "web", "--", "1000"]);
        dies(&stead, place);
        let said = stead.ok(["delete", "web"]);
        assert_eq!(deaths(&stead), 1, "{place}");
        assert!(said.contains("web"), "{place}: {said}");
        assert_eq!(stead.json(["list", "--json"]), json!([]), "{place}");
        assert_eq!(stead.processes().len(), 2, "{place}: keeper and daemon");
    }
}

#[test]
fn kill_ends_all_however_its_daemon_dies() {
    for place in ["before asked", "after persist", "after signal", "before drained", "after journal"] {
        let stead = Stead::new();
        stead.ok(["start", "/bin/sleep", "--name", "web", "--", "1000"]);
        dies(&stead, place);
        let keeper = daemon_parent(&stead);
        let said = stead.ok(["kill"]);
        assert_eq!(deaths(&stead), 1, "{place}");
        assert_eq!(said, "all apps are stopped, and stead has ended\n", "{place}");
        assert!(!is_alive(keeper), "{place}");
        assert!(stead.processes().is_empty(), "{place}");
    }
}

fn daemon_parent(stead: &Stead) -> i32 {
    std::fs::read_to_string(stead.home.join("lock")).unwrap().trim().parse().unwrap()
}

/// Nobody serves for longer than the keeper lets pipes be, and one that wrote little has its lines as they are to be all the same.
#[test]
fn lines_that_fit_a_pipe_wait_for_a_daemon_that_knows_their_form() {
    let stead = Stead::new();
    stead.kit();
    stead.file(
        "app.py",
        "from kit import *\nwait_for('go')\nfor n in range(700):\n    os.write(1, f'{n}\\n'.encode())\n    time.sleep(0.01)\nnote('done')\nforever()\n",
    );
    stead.start("apps:\n  - {name: app, script: ./app.py, time: true, log_file: both.log}\n");
    let (logs, aside) = (stead.home.join("logs"), stead.home.join("logs.aside"));
    // Without its folder no daemon can begin.
    std::fs::rename(&logs, &aside).unwrap();
    stead.file("../home/logs", "in the way");
    stead.kill_daemon();
    stead.file("go", "");
    until("seven seconds have passed", || stead.diary("app") == ["done"]);
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(&aside, &logs).unwrap();
    let numbers: Vec<String> = (0..700).map(|n| n.to_string()).collect();
    for log in [logs.join("app.out.log"), stead.work.join("both.log")] {
        let text = || std::fs::read_to_string(&log).unwrap();
        until("all has come", || text().lines().count() >= 700);
        let text = text();
        let lines: Vec<(&str, &str)> = text.lines().map(|line| line.rsplit_once(": ").unwrap_or(("", line))).collect();
        assert!(lines.iter().all(|(time, _)| !time.is_empty()), "{}: a line without its time", log.display());
        assert!(lines.iter().map(|(_, n)| n).eq(&numbers), "{}: {lines:?}", log.display());
    }
}

/// SIGKILL ends a write(2) between two pages: a head of the piece stands in the file, and the whole piece comes again.
#[test]
fn a_line_torn_by_a_death_amid_a_write_is_ended_before_its_piece_comes_again() {
    let stead = Stead::new();
    let (own, both) = (stead.home.join("logs/app.out.log"), stead.work.join("both.log"));
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    for (log, length) in [(&own, 4096), (&both, 8192)] {
        std::fs::write(log, "x".repeat(length)).unwrap();
    }
    stead.start(
        "apps:\n  - {name: app, script: /bin/sh, args: [-c, 'echo hello; exec sleep 1000'], time: true, log_file: both.log}\n",
    );
    for (log, length) in [(&own, 4096), (&both, 8192)] {
        let text = eventually("it said hello", || {
            let text = std::fs::read_to_string(log).unwrap();
            if text.ends_with("hello\n") { Ok(text) } else { Err(text) }
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0].len()), (2, length), "{text}");
        assert!(lines[1].ends_with(": hello"), "{text}");
    }
}

/// The index of a log was written by four writes a line, and a daemon died between two: two lines became one, of a place behind the end.
#[test]
fn a_torn_line_of_an_index_is_cut_off_before_the_next_is_written() {
    let stead = Stead::new();
    let index = stead.home.join("logs/app.out.log.idx");
    std::fs::create_dir_all(index.parent().unwrap()).unwrap();
    std::fs::write(&index, "0 1000\n45423").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::options().append(true).open(&index).unwrap().set_modified(long_ago).unwrap();
    stead.start("apps:\n  - {name: app, script: /bin/sh, args: [-c, 'echo hello; exec sleep 1000']}\n");
    let text = eventually("a line is indexed", || {
        let text = std::fs::read_to_string(&index).unwrap();
        if text.lines().count() == 2 && text.ends_with('\n') { Ok(text) } else { Err(text) }
    });
    assert!(text.starts_with("0 1000\n0 1"), "{text}");
    assert_indexed(&stead.home.join("logs"));
}

/// A daemon that has served is followed at once, however many there were before it.
#[test]
fn a_daemon_that_served_for_a_second_is_followed_at_once() {
    let stead = Stead::new();
    stead.ok(["start", "/bin/sleep", "--name", "web", "--", "1000"]);
    let keeper = stead.keeper_pid();
    for _ in 0..7 {
        let daemon = stead.daemon_pid();
        let served = Instant::now();
        until("it has served for a while", || served.elapsed() > Duration::from_millis(1_300));
        signal(daemon, 9);
        let killed = Instant::now();
        until("the next is there", || daemon_of(keeper).is_some_and(|next| next != daemon));
        // The seventh in a row that had not served would be waited for 3.2 s.
        assert!(killed.elapsed() < Duration::from_millis(1_500), "{:?}", killed.elapsed());
    }
}
