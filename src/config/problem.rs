//! What is wrong with an ecosystem file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// More than these are not shown: the first ones are worth reading, the rest most often follows from them.
const SHOWN: usize = 50;

/// A place that a person can go to: `ecosystem.yaml:12: apps[2].cwd`, or `--cwd` of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As the user named it. `None`: the command line.
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: Option<usize>,
    /// The path of the value, such as `apps[2].env.PORT`. Empty: the file as a whole.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}", located(file))?,
            (Some(file), None) => f.write_str(&located(file))?,
            (None, _) => return f.write_str(&self.path),
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// One line, lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// Without the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong, in order of line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Sorts by line and bounds the number.
    pub(super) fn new(mut problems: Vec<Problem>) -> Problems {
        in_order(&mut problems);
        if problems.len() > SHOWN {
            let more = problems.len() - SHOWN;
            problems.truncate(SHOWN);
            let place = Place { line: None, path: String::new(), ..problems[0].place.clone() };
            problems.push(Problem { place, message: format!("{more} more problems like these"), hint: None });
        }
        Problems(problems)
    }
}

/// Sorts by file and line; what has no line comes first.
pub(super) fn in_order(problems: &mut [Problem]) {
    problems.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// A line for each problem, and one below it for its hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// What is wrong with one value; the place is known to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }

    pub fn at(self, place: Place) -> Problem {
        Problem { place, message: self.message, hint: self.hint }
    }
}

/// Text of the user within a message: one line, 60 characters at most, nothing a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    bounded(text, 60)
}

/// A path within a message.
pub(super) fn located(path: &Path) -> String {
    bounded(&path.to_string_lossy(), 300)
}

fn bounded(text: &str, most: usize) -> String {
    let mut start = String::new();
    for c in text.chars().take(most) {
        if c.is_control() { start.extend(c.escape_debug()) } else { start.push(c) }
    }
    if text.chars().nth(most).is_some() {
        start.push('…');
    }
    start
}
