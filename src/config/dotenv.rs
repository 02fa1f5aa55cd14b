//! The format of `.env` files: `KEY=VALUE`, `export KEY=VALUE`, quotes, `#` comments. Nothing is expanded.

use super::problem::Fault;
use std::collections::HashMap;

#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    pub key: String,
    pub value: String,
    pub line: usize,
    /// It has a `${NAME}` that other readers of such files would expand.
    pub refers: bool,
}

/// The variables, and what is wrong with which line. No message holds a value.
pub fn parse(text: &str) -> (Vec<Variable>, Vec<(usize, Fault)>) {
    let text = text.replace("\r\n", "\n");
    let (mut variables, mut faults, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    let (mut rest, mut line) = (text.as_str(), 1);
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        match assignment(rest) {
            Ok((key, value, refers, after)) => {
                match lines.insert(key.to_owned(), line) {
                    Some(earlier) => faults.push((line, Fault::new(format!("`{key}` is already in line {earlier}")))),
                    None => variables.push(Variable { key: key.to_owned(), value, line, refers }),
                }
                line += rest[..rest.len() - after.len()].matches('\n').count();
                rest = after;
            }
            Err(fault) => {
                faults.push((line, fault));
                (rest, line) = (after, line + 1);
            }
        }
    }
    (variables, faults)
}

/// Key, value, whether it refers to others, and what follows its line.
fn assignment(text: &str) -> Result<(&str, String, bool, &str), Fault> {
    let first = text.lines().next().unwrap_or_default();
    let (left, _) = first.split_once('=').ok_or_else(|| Fault::new("has no `=`").hint("a line is `KEY=VALUE`"))?;
    let key = left.trim();
    let key = key.strip_prefix("export").filter(|key| key.starts_with([' ', '\t'])).map_or(key, str::trim);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if key.is_empty() || !key.chars().all(plain) || key.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Fault::new("what stands before the `=` is not the name of a variable"));
    }
    let value = text[left.len() + 1..].trim_start_matches([' ', '\t']);
    let (value, refers, after) = match value.chars().next() {
        Some('\'') => {
            let end = value[1..].find('\'').ok_or_else(|| unclosed(key))? + 1;
            (value[1..end].to_owned(), false, &value[end + 1..])
        }
        Some('"') => double_quoted(&value[1..]).ok_or_else(|| unclosed(key))?,
        _ => {
            let end = value.find('\n').unwrap_or(value.len());
            let plain = without_comment(&value[..end]);
            (plain.to_owned(), plain.contains("${"), &value[end..])
        }
    };
    let (trailing, after) = after.split_once('\n').unwrap_or((after, ""));
    let trailing = trailing.trim();
    if !trailing.is_empty() && !trailing.starts_with('#') {
        return Err(Fault::new(format!("`{key}` has text after its closing quote")));
    }
    Ok((key, value, refers, after))
}

fn unclosed(key: &str) -> Fault {
    Fault::new(format!("the quote of `{key}` is never closed"))
}

/// Up to the closing quote, with its escapes resolved.
fn double_quoted(text: &str) -> Option<(String, bool, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, text[..index].contains("${"), &text[index + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

/// A `#` begins a comment after a blank only: `a#b` is a value.
fn without_comment(value: &str) -> &str {
    let comment = value
        .char_indices()
        .find(|(at, c)| *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    value[..comment.map_or(value.len(), |(at, _)| at)].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let (variables, faults) = parse(text);
        assert_eq!(faults, [], "{text}");
        variables.into_iter().map(|variable| (variable.key, variable.value)).collect()
    }

    #[test]
    fn quotes_comments_and_exports_are_understood() {
        for (text, value) in [
            ("A=1", "1"),
            ("  A = 1  # one", "1"),
            ("export A=1\r\n", "1"),
            ("A=", ""),
            ("A=#x", ""),
            ("A=a#b", "a#b"),
            ("A='a # b'", "a # b"),
            ("A=\"a\\n\\\"b\\\" \\q\" # c", "a\n\"b\" \\q"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=postgres://u:p@h/db?x=1", "postgres://u:p@h/db?x=1"),
            ("# c\n\nA='it''s' ", ""),
        ] {
            if text.contains("''") {
                assert_eq!(parse(text).1[0].1.message, "`A` has text after its closing quote");
                continue;
            }
            assert_eq!(values(text), [("A".to_owned(), value.to_owned())], "{text}");
        }
    }

    #[test]
    fn each_bad_line_is_told_with_its_number_and_without_its_value() {
        let (variables, faults) = parse("A=\"x\ny\"\nsecret\n1B=secret\nA=secret\nC='secret\nD=4\n");
        assert_eq!(variables.iter().map(|v| (v.key.as_str(), v.line)).collect::<Vec<_>>(), [("A", 1), ("D", 7)]);
        let told: Vec<(usize, &str)> = faults.iter().map(|(line, fault)| (*line, fault.message.as_str())).collect();
        assert_eq!(
            told,
            [
                (3, "has no `=`"),
                (4, "what stands before the `=` is not the name of a variable"),
                (5, "`A` is already in line 1"),
                (6, "the quote of `C` is never closed"),
            ]
        );
    }

    #[test]
    fn a_reference_is_seen_and_kept() {
        let (variables, _) = parse("A=${B}\nC=\"${B}\"\nD='${B}'\nE=$B");
        assert_eq!(variables.iter().map(|v| v.refers).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(variables.iter().take(3).all(|v| v.value == "${B}"));
    }
}
