//! What an app runs: `script`, `interpreter` and their arguments become one command.

use super::app::App;
use super::file::sentence;
use super::node::{Kind, Node, Value};
use super::problem::{Fault, located, shown};
use super::surroundings::Surroundings;
use super::value::{arguments, word};
use crate::core::spec::Env;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The program and what follows from it.
pub(super) struct Program {
    pub command: Vec<String>,
    /// The app's name where it has none.
    pub stem: String,
    python: bool,
}

impl Program {
    /// Python keeps back its output when it is no terminal: without this the log would be late, and empty after a crash.
    pub fn env(&self, mut env: Env) -> Env {
        if self.python {
            env.entry("PYTHONUNBUFFERED".into()).or_insert_with(|| "1".into());
        }
        env
    }
}

/// PM2's table; several programs are tried in order.
const INTERPRETERS: &[(&str, &[&str])] = &[
    ("py", &["python3"]),
    ("sh", &["bash"]),
    ("rb", &["ruby"]),
    ("php", &["php"]),
    ("pl", &["perl"]),
    ("js", &["node"]),
    ("mjs", &["node"]),
    ("cjs", &["node"]),
    ("ts", &["bun", "node"]),
    ("tsx", &["bun", "node"]),
];

enum Interpreter {
    /// By the script's extension.
    Unsaid,
    None,
    Named(String),
}

impl App<'_> {
    pub fn program(&mut self, cwd: Option<&Path>, env: &Env) -> Option<Program> {
        let args = self.get("args", arguments).unwrap_or_default();
        let interpreter_args = self.get("interpreter_args", arguments).unwrap_or_default();
        let told = self.entry("interpreter").is_some();
        let interpreter = match self.get("interpreter", interpreter) {
            Some(interpreter) => interpreter,
            None if told => return None,
            None => Interpreter::Unsaid,
        };
        if self.entry("script").is_none() {
            let fault = Fault::new("`script` is missing").hint("name the program to run");
            self.complain(self.place_of("script"), fault);
        }
        let script = self.get("script", word)?;
        let (around, cwd) = (self.source.around, cwd?);
        let path = env.get("PATH").or(around.path.as_ref()).map_or("", String::as_str);
        let search = Search { around, cwd, base: &self.source.base, path };
        let request = Request { script: &script, file: around.path(cwd, &script), interpreter, interpreter_args, args };
        match request.resolve(&search) {
            Ok(program) => Some(program),
            Err((attribute, fault)) => {
                self.complain(self.place_of(attribute), fault);
                None
            }
        }
    }
}

fn interpreter(node: &Node) -> Result<Interpreter, Fault> {
    if matches!(node.value, Value::Scalar { kind: Kind::Bool(false), .. }) {
        return Ok(Interpreter::None);
    }
    match word(node)? {
        name if name.eq_ignore_ascii_case("none") => Ok(Interpreter::None),
        name => Ok(Interpreter::Named(name)),
    }
}

/// Where programs are looked for.
struct Search<'a> {
    around: &'a Surroundings<'a>,
    cwd: &'a Path,
    base: &'a Path,
    path: &'a str,
}

impl Search<'_> {
    /// A bare name in PATH.
    fn in_path(&self, name: &str) -> Option<PathBuf> {
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let directories = self.path.split(':').filter(|directory| directory.starts_with('/'));
        directories.map(|directory| Path::new(directory).join(name)).find(|file| self.runs(file))
    }

    fn runs(&self, file: &Path) -> bool {
        file.is_file() && (self.around.executable)(file)
    }

    /// A virtual environment's program of that name, for a hint.
    fn in_venv(&self, name: &str) -> Option<String> {
        let directories = ["venv", ".venv", "env"].into_iter();
        directories.map(|venv| format!("{venv}/bin/{name}")).find(|file| self.runs(&self.cwd.join(file)))
    }
}

/// The attributes, and the file that `script` would be.
struct Request<'a> {
    script: &'a str,
    file: PathBuf,
    interpreter: Interpreter,
    interpreter_args: Vec<String>,
    args: Vec<String>,
}

/// The attribute that is to blame, and why.
type Blame = (&'static str, Fault);

impl Request<'_> {
    fn resolve(self, search: &Search<'_>) -> Result<Program, Blame> {
        let module = self.interpreter_args.last().is_some_and(|last| last == "-m");
        if self.file.is_file() {
            let file = self.file.clone();
            self.with_file(file, search)
        } else if self.script.contains(char::is_whitespace) {
            self.shell(search)
        } else if let (true, Interpreter::Named(name)) = (module, &self.interpreter) {
            let interpreter = named(name, search)?;
            let script = self.script.to_owned();
            Ok(self.by(&interpreter, script))
        } else if let Some(file) = search.in_path(self.script) {
            self.with_file(file, search)
        } else {
            Err(("script", self.missing(search)))
        }
    }

    /// A file, and what runs it.
    fn with_file(self, file: PathBuf, search: &Search<'_>) -> Result<Program, Blame> {
        let interpreter = match &self.interpreter {
            Interpreter::None => None,
            Interpreter::Named(name) => Some(named(name, search)?),
            Interpreter::Unsaid => by_extension(&file, search).map_err(|fault| ("script", fault))?,
        };
        let text = file.to_string_lossy().into_owned();
        match interpreter {
            Some(interpreter) => match std::fs::File::open(&file) {
                Ok(_) => Ok(self.by(&interpreter, text)),
                Err(error) => Err(("script", Fault::new(format!("{}: {}", located(&file), sentence(&error))))),
            },
            None => {
                let head = Head::of(&file);
                direct(&file, &head, search).map_err(|fault| ("script", fault))?;
                let python = is_python(&file) || head.shebang().is_some_and(|line| line.contains("python"));
                let stem = self.stem();
                // An interpreter's arguments without an interpreter are the program's own, as in PM2.
                let command = [vec![text], self.interpreter_args, self.args].concat();
                Ok(Program { command, stem, python })
            }
        }
    }

    fn by(self, interpreter: &Path, script: String) -> Program {
        let stem = self.stem();
        let interpreter_text = interpreter.to_string_lossy().into_owned();
        let command = [vec![interpreter_text], self.interpreter_args, vec![script], self.args].concat();
        Program { command, stem, python: is_python(interpreter) }
    }

    /// A line with blanks is the shell's. PM2 drops `args` here; they are appended, quoted.
    fn shell(self, search: &Search<'_>) -> Result<Program, Blame> {
        let shell = match &self.interpreter {
            Interpreter::Named(name) if !matches!(name.as_str(), "bash" | "sh") => {
                let fault = Fault::new(format!("`{}` is not a file", shown(self.script)))
                    .hint("arguments of the script go into `args`, those of the interpreter into `interpreter_args`");
                return Err(("script", fault));
            }
            Interpreter::Named(name) => name,
            Interpreter::Unsaid | Interpreter::None => "bash",
        };
        let shell = named(shell, search)?;
        let words = shlex::split(self.script);
        let words = words.ok_or_else(|| ("script", Fault::new("a quote in this command is never closed")))?;
        let first = words.iter().find(|word| !word.contains('=') && *word != "exec" && *word != "env");
        let python = words.iter().any(|word| is_python(Path::new(word)))
            || first.and_then(|name| search.in_path(name)).is_some_and(|file| Head::of(&file).is_python());
        let line = match shlex::try_join(self.args.iter().map(String::as_str)) {
            Ok(args) if !args.is_empty() => format!("{} {args}", self.script),
            _ => self.script.to_owned(),
        };
        let stem = stem(first.map_or("bash", String::as_str));
        let command = [vec![shell.to_string_lossy().into_owned()], self.interpreter_args, vec!["-c".into(), line]];
        Ok(Program { command: command.concat(), stem, python })
    }

    fn stem(&self) -> String {
        stem(self.script)
    }

    fn missing(&self, search: &Search<'_>) -> Fault {
        let script = shown(self.script);
        if self.file.is_dir() {
            return Fault::new(format!("{} is a directory", located(&self.file)));
        }
        if self.script.contains('/') {
            return Fault::new(format!("{} does not exist", located(&self.file)));
        }
        let fault =
            Fault::new(format!("`{script}` is neither a file in {} nor a program in PATH", located(search.cwd)));
        if let Some(file) = search.in_venv(self.script) {
            return fault.hint(format!("write `{file}`"));
        }
        match search.base.join(self.script) {
            file if file.is_file() => fault.hint(format!("`script` is relative to `cwd`; there is {}", located(&file))),
            _ => fault,
        }
    }
}

/// The file name without its extension.
fn stem(script: &str) -> String {
    Path::new(script).file_stem().map_or_else(|| script.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// An interpreter: a name in PATH, or a path relative to `cwd`, then to the file.
fn named(name: &str, search: &Search<'_>) -> Result<PathBuf, Blame> {
    let blame = |fault| ("interpreter", fault);
    if !name.contains('/') {
        return search.in_path(name).ok_or_else(|| {
            let fault = Fault::new(format!("`{}` is not a program in PATH", shown(name)));
            blame(match search.in_venv(name) {
                Some(file) => fault.hint(format!("write `{file}`")),
                None if name.contains(char::is_whitespace) => fault.hint("its arguments go into `interpreter_args`"),
                None => fault,
            })
        });
    }
    let candidates = [search.cwd, search.base].map(|base| search.around.path(base, name));
    let Some(file) = candidates.iter().find(|file| file.is_file()) else {
        return Err(blame(Fault::new(format!("{} does not exist", located(&candidates[0])))));
    };
    if !(search.around.executable)(file) {
        let hint = format!("chmod +x {}", located(file));
        return Err(blame(Fault::new(format!("{} is not executable", located(file))).hint(hint)));
    }
    Ok(file.clone())
}

fn by_extension(file: &Path, search: &Search<'_>) -> Result<Option<PathBuf>, Fault> {
    let extension = file.extension().unwrap_or_default();
    let Some((_, programs)) = INTERPRETERS.iter().find(|(known, _)| extension == *known) else {
        return Ok(None);
    };
    match programs.iter().find_map(|program| search.in_path(program)) {
        Some(program) => Ok(Some(program)),
        None => Err(Fault::new(format!("needs `{}`, which is not in PATH", programs[0]))
            .hint("name the `interpreter`, or `interpreter: none`")),
    }
}

/// Whether the kernel can run the file as it is.
fn direct(file: &Path, head: &Head, search: &Search<'_>) -> Result<(), Fault> {
    let name = located(file);
    if !(search.around.executable)(file) {
        let hint = match head.program() {
            Some(program) if !program.ends_with("/env") => format!("chmod +x {name}, or `interpreter: {program}`"),
            Some(_) => format!("chmod +x {name}"),
            None => "name the `interpreter` that runs it".into(),
        };
        return Err(Fault::new(format!("{name} is not executable")).hint(hint));
    }
    match head.program() {
        Some(program) if program.ends_with('\r') => Err(Fault::new(format!(
            "the first line of {name} ends with a carriage return, which Linux takes for a part of the program's name"
        ))
        .hint(format!("sed -i 's/\\r$//' {name}"))),
        Some(program) if !Path::new(program).exists() => {
            Err(Fault::new(format!("{name} begins with `#!{}`, which does not exist", shown(program)))
                .hint("name the `interpreter`, or make the virtual environment anew"))
        }
        None if head.is_text() => Err(Fault::new(format!("{name} is no program and does not begin with `#!`"))
            .hint("name the `interpreter` that runs it")),
        _ => Ok(()),
    }
}

fn is_python(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("python") || name.starts_with("pypy")
}

/// The first bytes of a file; none where it may not be read.
struct Head(Option<Vec<u8>>);

impl Head {
    fn of(file: &Path) -> Head {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(file).and_then(|file| file.take(256).read_to_end(&mut bytes));
        Head(read.ok().map(|_| bytes))
    }

    /// The line after `#!`.
    fn shebang(&self) -> Option<&str> {
        let line = self.0.as_ref()?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        std::str::from_utf8(line).ok()
    }

    /// The program of that line, with a carriage return if there is one.
    fn program(&self) -> Option<&str> {
        self.shebang()?.trim_matches([' ', '\t']).split([' ', '\t']).next()
    }

    fn is_python(&self) -> bool {
        self.shebang().is_some_and(|line| line.contains("python"))
    }

    /// Without a NUL it is no machine code; empty is text too.
    fn is_text(&self) -> bool {
        self.0.as_ref().is_some_and(|bytes| !bytes.contains(&0))
    }
}
