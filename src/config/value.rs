//! What a value means: text, switch, number, span of time, size.

use super::node::{Kind, Node, Value};
use super::problem::Fault;
use crate::core::clock::Millis;
use crate::core::spec::Bytes;
use std::rc::Rc;

type Read<T> = Result<T, Fault>;

/// A longer time is a slip of units.
const YEAR: f64 = 365.0 * 86_400_000.0;

/// A scalar as it was written; a number or a switch where text is wanted is that text.
pub fn text(node: &Node) -> Read<String> {
    match &node.value {
        Value::Scalar { kind: Kind::Empty | Kind::Null, .. } => {
            Err(Fault::new("has no value").hint("write a value, or `\"\"` for an empty text"))
        }
        Value::Scalar { text, .. } if text.contains('\0') => Err(Fault::new("a text has no NUL character")),
        Value::Scalar { text, .. } => Ok(text.clone()),
        Value::List(_) | Value::Map(_) => Err(wanted("a text", node)),
    }
}

/// A text that names something.
pub fn word(node: &Node) -> Read<String> {
    match &node.value {
        Value::Scalar { kind: Kind::Bool(_), .. } => Err(wanted("a text", node)),
        _ => match text(node)? {
            text if text.trim().is_empty() => Err(Fault::new("must not be empty")),
            text => Ok(text),
        },
    }
}

/// The name of something that the system knows, so no longer than such a name is.
pub fn short(node: &Node) -> Read<String> {
    match word(node)? {
        text if text.len() > 64 || text.contains(char::is_control) => Err(wanted("a name that the system knows", node)),
        text => Ok(text),
    }
}

/// Everything that is no such thing.
pub fn wanted(what: &str, node: &Node) -> Fault {
    Fault::new(format!("{} is not {what}", node.describe()))
}

pub fn boolean(node: &Node) -> Read<bool> {
    match &node.value {
        Value::Scalar { kind: Kind::Bool(value), .. } => Ok(*value),
        Value::Scalar { text, .. } if text == "true" => Ok(true),
        Value::Scalar { text, .. } if text == "false" => Ok(false),
        _ => Err(Fault::new(format!("{} is neither true nor false", node.describe()))),
    }
}

/// A whole number in a range, or the same in quotes.
pub fn integer(node: &Node, least: i64, most: i64) -> Read<i64> {
    let number = match &node.value {
        Value::Scalar { kind: Kind::Integer(number), .. } => Some(*number),
        Value::Scalar { text, kind: Kind::Text } => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| wanted("a whole number", node))?;
    match i64::try_from(number) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Fault::new(format!("{number} is out of range ({least} to {most})"))),
    }
}

/// A span of time: a number is milliseconds, a text may have a unit.
pub fn span(node: &Node) -> Read<Millis> {
    const HINT: &str = "a number is milliseconds; with a unit: `500ms`, `5s`, `2m`, `1h`";
    let fault = || wanted("a span of time", node).hint(HINT);
    let Value::Scalar { text, kind: Kind::Integer(_) | Kind::Float(_) | Kind::Text } = &node.value else {
        return Err(fault());
    };
    let (number, unit) = quantity(text).ok_or_else(fault)?;
    let factor = match unit {
        "" | "ms" => 1.0,
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3600e3,
        "d" => 86_400e3,
        _ => return Err(fault()),
    };
    let ms = number * factor;
    if ms > YEAR {
        return Err(Fault::new(format!("{} is longer than a year", node.describe())).hint(HINT));
    }
    Ok(Millis(ms.round() as u64))
}

/// A size: a number is bytes, a text may have a unit; `M`, `MB` and `MiB` are the same 1,048,576 bytes.
pub fn size(node: &Node) -> Read<Bytes> {
    let fault = || wanted("a size", node).hint("a number is bytes; with a unit: `512K`, `300M`, `1.5G`");
    let Value::Scalar { text, kind: Kind::Integer(_) | Kind::Float(_) | Kind::Text } = &node.value else {
        return Err(fault());
    };
    let (number, unit) = quantity(text).ok_or_else(fault)?;
    let exponent = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(fault()),
    };
    let bytes = number * 1024f64.powi(exponent);
    // 8 EiB: above, the kernel has no number for it.
    if bytes >= 2f64.powi(63) {
        return Err(Fault::new(format!("{} is more than any machine has", node.describe())));
    }
    Ok(Bytes(bytes.round() as u64))
}

/// A size that was typed on the command line: `300M`, or a number of bytes.
///
/// # Errors
/// A sentence that says what a size is.
pub fn size_of(text: &str) -> Result<Bytes, String> {
    let scalar = Value::Scalar { text: text.to_owned(), kind: Kind::Text };
    size(&Node { line: 0, value: scalar })
        .map_err(|_| format!("`{text}` is no size: a number is bytes; with a unit: `512K`, `300M`, `1.5G`"))
}

/// `1.5G` is 1.5 and `G`. Digits and one point, nothing else: no sign, no exponent, no `inf`.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    Some((number.parse().ok()?, unit.trim_start()))
}

/// The cap: a size that can be meant.
pub fn cap(node: &Node) -> Read<Option<Bytes>> {
    if node.is_off() {
        return Ok(None);
    }
    let bytes = size(node)?;
    if bytes.0 < 1 << 20 {
        let guess = node.describe().trim_matches('`').trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
        return Err(Fault::new(format!("{bytes} is surely a mistake: no program runs in less than 1M"))
            .hint(format!("a number is bytes; write `{guess}M` for {guess} MiB")));
    }
    Ok(Some(bytes))
}

/// A share of CPU time, in thousandths of one CPU: `50%`, or a number of CPUs such as `1.5`.
pub fn share(node: &Node) -> Read<u32> {
    let fault =
        || wanted("a share of CPU time", node).hint("write `50%` of one CPU, or a number of CPUs such as `1.5`");
    let Value::Scalar { text, .. } = &node.value else { return Err(fault()) };
    let (number, unit) = quantity(text).ok_or_else(fault)?;
    let thousandths = match unit {
        "" => number * 1000.0,
        "%" => number * 10.0,
        _ => return Err(fault()),
    };
    // The kernel takes no quota below 1 ms in 100.
    if !(10.0..=1_024_000.0).contains(&thousandths) {
        return Err(Fault::new(format!("{} is not between 1% and 1024 CPUs", node.describe())));
    }
    Ok(thousandths.round() as u32)
}

/// Octal digits, as chmod(1) takes them: `022`, `"0022"` and `0o22` are the same, and so is a plain 22.
pub fn umask(node: &Node) -> Read<u32> {
    let Value::Scalar { text, kind: Kind::Integer(_) | Kind::Text } = &node.value else {
        return Err(wanted("a umask", node).hint("write octal digits, such as `022`"));
    };
    let digits = text.trim().trim_start_matches("0o");
    match u32::from_str_radix(digits, 8) {
        Ok(mask) if mask <= 0o777 && !digits.starts_with('+') => Ok(mask),
        _ => Err(wanted("a umask", node).hint("write octal digits up to 777, such as `022`")),
    }
}

/// A list, or one value that stands for a list of one.
pub fn many(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(items) => items.iter().map(Rc::as_ref).collect(),
        _ => vec![node],
    }
}

/// Arguments: a list of scalars, or one text that is split as a POSIX shell splits it, without expanding anything.
pub fn arguments(node: &Node) -> Read<Vec<String>> {
    match &node.value {
        Value::List(items) => {
            let one = |(index, item): (usize, &Rc<Node>)| {
                text(item).map_err(|fault| Fault { message: format!("argument {index}: {}", fault.message), ..fault })
            };
            items.iter().enumerate().map(one).collect()
        }
        Value::Scalar { .. } => split(&text(node)?),
        Value::Map(_) => Err(wanted("a list of arguments", node)),
    }
}

fn split(text: &str) -> Read<Vec<String>> {
    // To shlex a word that begins with `#` is the start of a comment; a line of arguments has none.
    const HASH: &str = "\u{10ffff}";
    let words = shlex::split(&text.replace('#', HASH))
        .ok_or_else(|| Fault::new("a quote is never closed").hint("or write the arguments as a list"))?;
    Ok(words.into_iter().map(|word| word.replace(HASH, "#")).collect())
}
