//! The text of an ecosystem file becomes a tree.
//!
//! serde_yaml's own values lose the line, the spelling (`1.10` becomes 1.1) and everything after the first error; so the tree
//! is built from the parser's events, and serde_yaml is asked what a plain number means.

use super::node::{Entry, Kind, Node, Value};
use super::problem::{Fault, Place, Problem, located, shown};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

/// A thousand apps with all their environment are below one MiB.
const MAX_BYTES: u64 = 4 << 20;
/// Values of one file, those that aliases and merges repeat counted each time: a bomb ends here.
const MAX_VALUES: usize = 250_000;
/// `apps[0].limits.nofile.soft` is five deep.
const MAX_DEPTH: usize = 32;

/// The whole text of `path`, which the user named `name`.
pub fn load(path: &Path, name: &Path) -> Result<String, Problem> {
    let place = || Place { file: Some(name.to_owned()), ..Place::default() };
    if path.extension().is_some_and(|extension| ["js", "cjs", "mjs", "ts"].iter().any(|js| extension == *js)) {
        return Err(script(name).at(place()));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let fault = Fault::new(format!("could not be read: {}", sentence(&error)));
        let directory = error.kind() == io::ErrorKind::IsADirectory;
        return Err(if directory { fault.hint("name the file in it") } else { fault }.at(place()));
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault::new(format!("an ecosystem file has at most {} MiB", MAX_BYTES >> 20)).at(place()));
    }
    decode(bytes).map_err(|(line, fault)| fault.at(Place { line, ..place() }))
}

/// An error of the system without its number: `no such file or directory`.
pub fn sentence(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// UTF-8 with or without a byte order mark, and no control characters.
pub fn decode(bytes: Vec<u8>) -> Result<String, (Option<usize>, Fault)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((None, Fault::new("is UTF-16, and stead reads UTF-8").hint("save it as UTF-8")));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        (Some(line), Fault::new("is not UTF-8").hint("save it as UTF-8"))
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    let is_control = |c: &char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((at, control)) = text.char_indices().find(|(_, c)| is_control(c)) {
        let line = 1 + text[..at].matches('\n').count();
        let message = format!("has the control character `{}`", control.escape_debug());
        return Err((Some(line), Fault::new(message)));
    }
    Ok(text)
}

fn script(name: &Path) -> Fault {
    let file = located(name);
    let module = if file.starts_with(['/', '.']) { file } else { format!("./{file}") };
    Fault::new("stead reads YAML and JSON, not JavaScript")
        .hint(format!("convert it: node -e 'console.log(JSON.stringify(require(\"{module}\")))' > ecosystem.json"))
}

/// The tree of a text, and what is wrong with it. No tree: the text is no YAML.
pub fn parse(text: &str, file: &Path) -> (Option<Rc<Node>>, Vec<Problem>) {
    let text = join_surrogates(text);
    let mut builder = Builder {
        parser: Parser::new_from_str(&text),
        file,
        path: String::new(),
        anchors: HashMap::new(),
        values: 0,
        problems: Vec::new(),
    };
    let tree = match builder.document() {
        Ok(tree) => tree.map(|(node, _)| node),
        Err(Syntax { line, fault }) => {
            builder.path.clear();
            let (line, fault) = explain(&text, line, fault);
            builder.complain(line, fault);
            None
        }
    };
    (tree, builder.problems)
}

/// JSON writes a character beyond U+FFFF as two escapes, which YAML does not know.
fn join_surrogates(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.trim_start().starts_with(['{', '[']) || !text.contains("\\u") {
        return text.into();
    }
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(found) = text[at..].find('\\') {
        let start = at + found;
        out.push_str(&text[at..start]);
        at = match (unit(start), unit(start + 6)) {
            (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                out.push_str(&format!("\\U{:08x}", 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
                start + 12
            }
            _ => {
                let escaped = text[start + 1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&text[start..start + 1 + escaped]);
                start + 1 + escaped
            }
        };
    }
    out.push_str(&text[at..]);
    out.into()
}

/// The end of reading.
struct Syntax {
    line: usize,
    fault: Fault,
}

/// The parser's words, and what people most often did.
fn explain(text: &str, line: usize, fault: Fault) -> (usize, Fault) {
    let mut near = text.lines().enumerate().skip(line.saturating_sub(1)).take(2);
    let tab = near.find(|(_, content)| content.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'));
    if let (Some((index, _)), true) = (tab, fault.message.contains("tab")) {
        let fault = Fault::new("a tab in the indentation").hint("YAML is indented by spaces only");
        return (index + 1, fault);
    }
    let hint = match fault.message.as_str() {
        message if message.contains("mapping values are not allowed") => {
            "check the indentation; a text with `: ` in it needs quotes"
        }
        message if message.contains("block collection") || message.contains("block mapping") => {
            "check the indentation: the keys of one app begin in one column"
        }
        message if message.contains("unknown anchor") => "an alias `*name` needs an anchor `&name` before it",
        message if message.contains("unexpected character") => "put the text in quotes",
        message if message.contains("unexpected end of stream") => "a quote is opened here and never closed",
        _ => return (line, fault),
    };
    (line, if fault.hint.is_none() { fault.hint(hint) } else { fault })
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    file: &'t Path,
    path: String,
    /// `None`: the node is not complete yet.
    anchors: HashMap<usize, Option<(Rc<Node>, usize)>>,
    values: usize,
    problems: Vec<Problem>,
}

/// A node and the number of values in it.
type Built = (Rc<Node>, usize);

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Syntax> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let fault = match error.info() {
                    "recursion limit exceeded" => Fault::new("is nested too deep"),
                    info => Fault::new(info),
                };
                Err(Syntax { line: error.marker().line(), fault })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn complain(&mut self, line: usize, fault: Fault) {
        let place = Place { file: Some(self.file.to_owned()), line: Some(line), path: self.path.clone() };
        self.problems.push(fault.at(place));
    }

    fn document(&mut self) -> Result<Option<Built>, Syntax> {
        let mut tree = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(tree),
                (Event::DocumentStart(_), span) if tree.is_some() => {
                    let fault = Fault::new("a second document begins").hint("write all apps into one list");
                    return Err(Syntax { line: span.start.line(), fault });
                }
                (Event::DocumentStart(_), _) => {
                    let first = self.next()?;
                    tree = Some(self.node(first, 0)?);
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span), depth: usize) -> Result<Built, Syntax> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(Syntax { line, fault: Fault::new("is nested too deep") });
        }
        let before = self.values;
        self.spend(1, line)?;
        let (anchor, tag, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let kind = kind(&text, style, tag.as_deref());
                (anchor, tag, Value::Scalar { text: text.into_owned(), kind })
            }
            Event::SequenceStart(anchor, tag) => {
                self.anchors.insert(anchor, None);
                (anchor, tag, Value::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.anchors.insert(anchor, None);
                (anchor, tag, Value::Map(self.map(depth)?))
            }
            _ => return Err(Syntax { line, fault: Fault::new("a value was expected") }),
        };
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            self.complain(line, Fault::new(format!("the tag `{}` is not known", shown(&tag.to_string()))));
        }
        let built = (Rc::new(Node { line, value }), self.values - before);
        self.anchors.insert(anchor, Some(built.clone()));
        Ok(built)
    }

    fn spend(&mut self, values: usize, line: usize) -> Result<(), Syntax> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            let message = format!("has more than {MAX_VALUES} values, repeated ones counted");
            return Err(Syntax { line, fault: Fault::new(message) });
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Built, Syntax> {
        let Some((node, values)) = self.anchors.get(&anchor).cloned().flatten() else {
            return Err(Syntax { line, fault: Fault::new("an alias stands within its own anchor") });
        };
        self.spend(values, line)?;
        Ok((node, values))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Rc<Node>>, Syntax> {
        let mut items = Vec::new();
        let length = self.path.len();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                event => {
                    self.path.push_str(&format!("[{}]", items.len()));
                    items.push(self.node(event, depth + 1)?.0);
                    self.path.truncate(length);
                }
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Syntax> {
        let (mut entries, mut merges, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
        let length = self.path.len();
        loop {
            let (key, line, is_merge) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), span) => {
                    let is_merge = text == "<<" && style == ScalarStyle::Plain;
                    (text.into_owned(), span.start.line(), is_merge)
                }
                (_, span) => {
                    let fault =
                        Fault::new("a key is a text").hint("a text that begins with `{`, `[` or `*` needs quotes");
                    return Err(Syntax { line: span.start.line(), fault });
                }
            };
            self.path.push_str(&step(&self.path, &key));
            let event = self.next()?;
            let (value, values) = self.node(event, depth + 1)?;
            if let Some(earlier) = lines.insert(key.clone(), line) {
                self.complain(line, duplicate(&key, earlier, is_merge));
            } else if is_merge {
                merges.push((value, values, line));
            } else {
                entries.push(Entry { key, line, value, merged: false });
            }
            self.path.truncate(length);
        }
        for (value, values, line) in merges {
            self.spend(values, line)?;
            self.merge(&value, line, &mut entries);
        }
        Ok(entries)
    }

    /// `<<`: the keys of other mappings, where this one has none of its own; earlier ones go before later ones.
    fn merge(&mut self, value: &Node, line: usize, entries: &mut Vec<Entry>) {
        let sources: Vec<&Node> = match &value.value {
            Value::List(items) => items.iter().map(Rc::as_ref).collect(),
            _ => vec![value],
        };
        let mut known: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for source in sources {
            let Value::Map(defaults) = &source.value else {
                let message = format!("`<<` merges mappings, not {}", source.describe());
                self.complain(line, Fault::new(message).hint("write `<<: *name` for a mapping that is marked `&name`"));
                continue;
            };
            for entry in defaults.iter().filter(|entry| known.insert(entry.key.clone())) {
                entries.push(Entry { merged: true, ..entry.clone() });
            }
        }
    }
}

fn duplicate(key: &str, earlier: usize, is_merge: bool) -> Fault {
    let fault = Fault::new(format!("`{}` is already in line {earlier}", shown(key)));
    if is_merge { fault.hint("merge several mappings with `<<: [*a, *b]`") } else { fault }
}

/// The step from a path to one of its keys.
pub fn step(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.len() <= 64 && key.chars().all(|c| c.is_alphanumeric() || "_-<".contains(c));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[\"{}\"]", shown(key)),
    }
}

fn kind(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    if style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str") {
        return Kind::Text;
    }
    match text {
        "" => Kind::Empty,
        "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        _ => text.parse().map_or(Kind::Text, number),
    }
}

fn number(number: serde_yaml::Number) -> Kind {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    integer.map_or_else(|| Kind::Float(number.as_f64().unwrap_or(f64::NAN)), Kind::Integer)
}
