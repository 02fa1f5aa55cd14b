//! What `start FILE` says before it does it, and what becomes of apps that are gone from the file.

use crate::harness::Stead;

/// A file of sleepers, each with what more is said of it.
fn file(stead: &Stead, name: &str, apps: &[(&str, &str)]) {
    let app = |(name, more): &(&str, &str)| format!("  - {{name: {name}, script: /bin/sleep, args: '1000'{more}}}\n");
    stead.file(name, &format!("apps:\n{}", apps.iter().map(app).collect::<String>()));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let stead = Stead::new();
    file(&stead, "ecosystem.yaml", &[("api", ", env: {PORT: 5000}"), ("calm", ""), ("old", ""), ("same", "")]);
    // Before anything runs: nothing is started for it, not even stead.
    assert_eq!(stead.ok(["start", "--dry-run"]), "+ api, calm, old, same: new\n");
    assert_eq!(stead.run(["ping"]).status, Some(1));
    stead.ok(["start"]);
    let pids = ["api", "calm", "old", "same"].map(|name| stead.pid(name));
    file(
        &stead,
        "ecosystem.yaml",
        &[
            ("api", ", env: {PORT: 5001}"),
            ("calm", ", max_restarts: 3"),
            ("new", ""),
            ("job", ", autostart: false"),
            ("same", ""),
        ],
    );
    let expected = "\
+ new: new
+ job: new, autostart is false
~ api: env.PORT 5000 → 5001: restart
~ calm: max_restarts 16 → 3: no restart
= same: unchanged
- old: gone from ecosystem.yaml: left as it is; --prune deletes
";
    assert_eq!(stead.ok(["start", "--dry-run"]), expected);
    let pruned = expected.replace("gone from ecosystem.yaml: left as it is; --prune deletes", "delete");
    assert_eq!(stead.ok(["start", "--dry-run", "--prune"]), pruned);
    assert_eq!(["api", "calm", "old", "same"].map(|name| stead.pid(name)), pids);
    assert_eq!(stead.json(["list", "--json"]).as_array().unwrap().len(), 4);
    // The same before it is done, and then that it is done.
    let said = stead.ok(["start"]);
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said[expected.len()..].starts_with("+ added job\n+ started new\n~ restarted api\n~ updated calm\n"),
        "{said}"
    );
    assert_eq!((stead.pid("old"), stead.pid("calm"), stead.pid("same")), (pids[2], pids[1], pids[3]));
    // And again, when there is nothing to do but to name what is gone.
    assert!(stead.ok(["start"]).contains("= 5 unchanged\n- old: gone from"));
}

#[test]
fn only_what_came_from_the_same_file_is_pruned() {
    let stead = Stead::new();
    file(&stead, "one.yaml", &[("a", ""), ("b", ""), ("c", "")]);
    file(&stead, "two.yaml", &[("other", "")]);
    stead.ok(["start", "one.yaml", "two.yaml"]);
    stead.ok(["start", "/bin/sleep", "--name", "script", "--", "1000"]);
    let pids = ["a", "other", "script"].map(|name| stead.pid(name));
    file(&stead, "one.yaml", &[("a", ""), ("c", "")]);
    // What `--only` leaves out is still in the file.
    let said = stead.ok(["start", "one.yaml", "--only", "a", "--prune"]);
    assert!(said.contains("- b: delete") && said.contains("- deleted b"), "{said}");
    let names: Vec<String> = stead
        .json(["list", "--json"])
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a", "c", "other", "script"]);
    assert_eq!(["a", "other", "script"].map(|name| stead.pid(name)), pids);
    // A daemon that begins anew still knows which file it was.
    stead.ok(["kill"]);
    stead.ok(["start", "one.yaml"]);
    file(&stead, "one.yaml", &[("a", "")]);
    assert!(stead.ok(["start", "one.yaml", "--dry-run", "--prune"]).contains("- c: delete"));
    for flag in ["--prune", "--dry-run"] {
        let said = stead.run(["start", "/bin/sleep", flag]);
        assert!(said.status == Some(2) && said.stderr.contains(flag), "{said:#?}");
    }
}

#[test]
fn the_schema_is_printed_for_editors() {
    let stead = Stead::new();
    let schema = stead.json(["schema"]);
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let watch = &schema["definitions"]["app"]["properties"]["watch"];
    assert!(watch["description"].as_str().unwrap().contains("when files change"), "{watch:#}");
    assert_eq!(stead.run(["ping"]).status, Some(1), "nothing is started for it");
}

#[test]
fn a_list_that_is_piped_has_all_its_columns() {
    let stead = Stead::new();
    file(&stead, "ecosystem.yaml", &[("api", ", namespace: web")]);
    stead.ok(["start"]);
    let shown = stead.ok(["list"]);
    let head = shown.lines().next().unwrap();
    for column in [
        "id",
        "namespace",
        "name",
        "status",
        "pid",
        "uptime",
        "restarts",
        "last end",
        "ended",
        "memory",
        "cpu",
        "procs",
        "why",
    ] {
        assert!(head.contains(column), "{column}: {head}");
    }
}
