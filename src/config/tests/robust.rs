//! Whatever the text, `read` answers, soon and within bounds.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

#[test]
fn bombs_end_early() {
    let world = World::new();
    let mut laughs = String::from("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    let mut merges = String::from("x-0: &a0 {k: v}\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("x-{level}: &a{level} [{aliases}]\n"));
        merges.push_str(&format!("x-{level}: &a{level} {{a: [{aliases}]}}\n"));
    }
    let wide: String = (0..5000).map(|n| format!("  k{n}: 1\n")).collect();
    let wide = format!("x-a: &a\n{wide}apps:\n{}", "- <<: *a\n".repeat(5000));
    for (text, part) in [
        ("[".repeat(10 << 20), "an ecosystem file has at most 4 MiB"),
        ("[".repeat(3 << 20), "ecosystem.yaml:1: is nested too deep"),
        ("- ".repeat(1 << 20), "ecosystem.yaml:1: is nested too deep"),
        ("{a: ".repeat(1 << 19), "ecosystem.yaml:1: is nested too deep"),
        ("- x\n".repeat(1 << 19), "has more than 250000 values, repeated ones counted"),
        (format!("{laughs}apps: *a11\n"), "has more than 250000 values, repeated ones counted"),
        (format!("{merges}apps: [*a11]\n"), "has more than 250000 values, repeated ones counted"),
        (wide, "has more than 250000 values, repeated ones counted"),
    ] {
        let errors = world.errors(&text);
        assert!(errors.contains(part) && errors.len() < 1000, "{errors}");
    }
}

#[test]
fn a_thousand_mistakes_are_fifty_lines_and_a_number() {
    let world = World::new();
    let errors = world.errors(&format!("apps:\n{}", "- 5\n".repeat(1000)));
    assert!(errors.ends_with("ecosystem.yaml: 950 more problems like these"), "{errors}");
    assert_eq!(errors.lines().count(), 101);
    let long = "x".repeat(1 << 20);
    for text in
        [format!("apps: [{{{long}: 1}}]"), format!("apps: [{{name: {long}}}]"), format!("apps: [{{script: {long}}}]")]
    {
        assert!(world.errors(&text).len() < 1000);
    }
}

/// Pieces of which files are made, and some that break them.
fn piece() -> impl Strategy<Value = String> {
    let attribute =
        proptest::sample::select(super::super::ATTRIBUTES).prop_map(|attribute| format!("{}: ", attribute.name));
    let word = proptest::sample::select(vec![
        "apps:\n",
        "- ",
        "  ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "&a ",
        "*a ",
        "<<: *a\n",
        "'",
        "\"",
        "|\n",
        "#",
        "---\n",
        "true",
        "-1",
        "0",
        "300M",
        "5s",
        "max",
        "app.py",
        "null",
        "~",
        "!t ",
        "? ",
        "env_x: {A: 1}",
        "\t",
        "\r\n",
        "\\u",
        "é",
        "\u{feff}",
        "unix:",
        "[::1]:80",
        "%Y",
        "YYYY",
        "../",
        "$(x)",
        "x-y: ",
        "1e999",
        "0x",
        "18446744073709551616",
    ])
    .prop_map(str::to_owned);
    prop_oneof![3 => attribute, 6 => word, 1 => ".{0,8}"]
}

/// Runs `check` on many inputs in one world; a failure shrinks.
fn try_all<S: Strategy>(cases: u32, inputs: &S, check: impl Fn(&World, S::Value) -> Result<(), TestCaseError>) {
    let world = World::new();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config).run(inputs, |input| check(&world, input)).unwrap();
}

#[test]
fn no_text_makes_it_panic() {
    let inputs = (proptest::collection::vec(piece(), 0..40), any::<bool>());
    try_all(2000, &inputs, |world, (pieces, json)| {
        let text = pieces.concat();
        let text = if json { format!("{{\"apps\": [{{{text}}}]}}") } else { text };
        if let Err(problems) = world.read(&text) {
            prop_assert!(!problems.0.is_empty() && problems.0.iter().all(|problem| problem.place.file.is_some()));
        }
        Ok(())
    });
}

#[test]
fn no_value_of_an_attribute_makes_it_panic() {
    let inputs = (proptest::sample::select(super::super::ATTRIBUTES), "[ -~é]{0,12}");
    try_all(1000, &inputs, |world, (attribute, value)| {
        let quoted = serde_json::to_string(&value).unwrap();
        for value in [quoted, value] {
            let _ = world.read(&app(&format!("{}: {value}", attribute.name)));
        }
        Ok(())
    });
}
