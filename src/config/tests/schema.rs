//! The schema says of a file what reading it says, as far as it can know.

use super::super::attributes::{ATTRIBUTES, Standing};
use super::super::file::parse;
use super::super::node::{Kind, Node, Value};
use super::super::schema::{schema, shape};
use super::*;
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value as Json, json};

struct Checker(Schemas, SchemaIndex);

impl Checker {
    fn new() -> Checker {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("ecosystem.json", schema()).unwrap();
        let index = compiler.compile("ecosystem.json", &mut schemas).unwrap();
        Checker(schemas, index)
    }

    /// What an editor would say of the text.
    fn check(&self, text: &str) -> Result<(), String> {
        let (tree, problems) = parse(text, Path::new("ecosystem.yaml"));
        assert!(problems.is_empty(), "{text}");
        self.0.validate(&as_json(&tree.unwrap()), self.1).map_err(|error| format!("{error:#}"))
    }
}

fn as_json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, kind } => match kind {
            Kind::Empty | Kind::Null => Json::Null,
            Kind::Bool(value) => json!(value),
            Kind::Integer(number) => json!(*number as i64),
            Kind::Float(number) => json!(number),
            Kind::Text => json!(text),
        },
        Value::List(items) => items.iter().map(|item| as_json(item)).collect(),
        // What the mapping says itself goes before what is merged in.
        Value::Map(entries) => {
            let merged = entries.iter().filter(|entry| entry.merged);
            let own = entries.iter().filter(|entry| !entry.merged);
            Json::Object(merged.chain(own).map(|entry| (entry.key.clone(), as_json(&entry.value))).collect())
        }
    }
}

#[test]
fn each_attribute_has_a_form() {
    for attribute in ATTRIBUTES.iter().filter(|attribute| attribute.standing != Standing::Foreign) {
        assert!(shape(attribute.name).is_some(), "{}", attribute.name);
    }
}

#[test]
fn the_example_is_as_the_schema_says() {
    let example = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ecosystem.yaml.example")).unwrap();
    Checker::new().check(&example).unwrap();
}

#[test]
fn what_is_read_is_as_the_schema_says() {
    let (world, checker) = (World::new(), Checker::new());
    world.file("x.env", "A=1\n");
    for lines in [
        "cmd: 'python3 -m http.server | tee log'",
        "args: [--port, 5000]",
        "args: --port 5000\ninterpreter_args: -X dev\ncwd: api\nscript: main.py",
        "env: {A: 1, B: true, C: null, D: x}\nenv_production: {A: 2}\nenv_file: [x.env]",
        "instances: max\nexec_mode: fork",
        "instances: -1\nmerge_logs: true",
        "instances: '4'",
        "maxMemoryRestart: 300M\nkillTimeout: 3000\nminUptime: 10s",
        "max_memory_restart: 314572800\nmemory_max: 1.5G\nmemory_swap_max: 0\noom_policy: continue",
        "autorestart: false\nstop_exit_codes: [0, 3]\nrestart_delay: 1.5s\nmax_restarts: 3",
        "watch: true\nignore_watch: [data, '*.csv']\nwatch_delay: 1s",
        "watch: [api]\nignore_watch: logs",
        "listen: ':5000'\nkill_mode: mixed",
        "no_new_privileges: true\numask: 022\nnice: -5\nlimits: {nofile: 1024, core: {soft: 0, hard: unlimited}}\ncpu_max: 50%\npids_max: 20",
        "error: err.log\nout: out.log\nlog_date_format: YYYY-MM-DD\nlog_max_size: 0\nlog_keep: 3",
        "x-mine: [1, 2]\npmx: false\nwindowsHide: true\nvizion: true",
        "restart_delay: null",
    ] {
        let text = app(lines);
        world.read(&text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        checker.check(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
    for text in ["- script: app.py\n", "script: app.py\n", "apps: {script: app.py}\n", "x-a: 1\napps: [{cmd: run}]\n"] {
        world.read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        checker.check(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
}

#[test]
fn what_the_schema_refuses_is_refused() {
    let (world, checker) = (World::new(), Checker::new());
    for lines in [
        "scirpt: app.py\nscript: app.py",
        "autorestart: yes",
        "instances: many",
        "instances: 1.5",
        "exec_mode: cluster",
        "kill_mode: all",
        "kill_timeout: 5 parsecs",
        "kill_timeout: -1",
        "max_memory_restart: lots",
        "watch: {a: b}",
        "ignore_watch: [[a]]",
        "stop_exit_codes: [256]",
        "nice: 20",
        "env: [A]",
        "env: {A: [1]}",
        "args: {a: b}",
        "log_keep: 1000",
    ] {
        let text = app(lines);
        assert!(world.read(&text).is_err(), "{text}");
        assert!(checker.check(&text).is_err(), "{text}");
    }
    for text in ["apps: []\n", "apps: 5\n", "apps: [{name: web}]\n", "programs: []\n", "aps: [{script: app.py}]\n"] {
        assert!(world.read(text).is_err() && checker.check(text).is_err(), "{text}");
    }
}

/// The rows of docs/configuration.md by the attribute's name, each cell as it is written.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.replace("\\|", "\0").split('|').map(|cell| cell.trim().replace('\0', "|")).collect();
    page.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

#[test]
fn the_reference_has_a_row_for_each_attribute_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let checker = Checker::new();
    let mut rows = rows(&page);
    for attribute in ATTRIBUTES {
        if attribute.standing == Standing::Foreign {
            assert!(page.contains(&format!("`{}`", attribute.name)), "{} is nowhere", attribute.name);
            continue;
        }
        let names: Vec<String> = attribute.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        let aliases = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let later = if attribute.standing == Standing::Used { "" } else { " **not yet**" };
        let name = format!("`{}`{aliases}", attribute.name);
        let at = rows.iter().position(|row| row[1] == name).unwrap_or_else(|| panic!("no row begins with | {name} |"));
        let row = rows.remove(at);
        assert_eq!(row.len(), 8, "{row:?}");
        assert_eq!(row[3], attribute.default, "the default of {name}, as the table of attributes has it");
        assert_eq!(row[5], format!("{}{later}", attribute.meaning), "the meaning of {name}, as the table has it");
        assert!(row.iter().all(|cell| cell.len() < 200), "{row:?}");
        let example = row[4].trim_matches('`');
        let script = if attribute.name == "script" { "" } else { "script: app.py\n  " };
        let text = format!("- {script}{}: {example}\n", attribute.name);
        checker.check(&text).unwrap_or_else(|error| panic!("the example of {name}: {error}"));
    }
    assert!(rows.is_empty(), "rows of no attribute: {rows:?}");
    for pattern in crate::core::watch::NEVER_WATCHED {
        assert!(page.contains(&format!("`{pattern}`")), "{pattern} is never watched, and the page is silent about it");
    }
}
