//! The variables of an app: of its env files, then of `env`, then of `env_<name>`.

use super::app::{App, is_variable};
use super::dotenv;
use super::file::{decode, sentence, step};
use super::node::{Entry, Kind, Node, Value};
use super::problem::{Fault, Place, located};
use super::value::{many, wanted, word};
use crate::core::spec::Env;
use std::io::Read;
use std::path::{Path, PathBuf};

const MAX_ENV_FILE: u64 = 1 << 20;

impl App<'_> {
    pub fn environment(&mut self) -> Env {
        let mut env = Env::new();
        for path in self.env_files() {
            self.env_file(&path, &mut env);
        }
        if let Some(entry) = self.entry("env") {
            self.variables(entry, &mut env);
        }
        for (name, entry) in self.environments.clone() {
            // The others are read too: a mistake in them is one.
            let mut other = Env::new();
            let chosen = self.source.env_name == Some(name);
            self.variables(entry, if chosen { &mut env } else { &mut other });
        }
        env
    }

    fn env_files(&mut self) -> Vec<PathBuf> {
        let source = self.source;
        let one = |node: &Node| Ok(source.around.path(&source.base, &word(node)?));
        self.get("env_file", |node| many(node).into_iter().map(one).collect()).unwrap_or_default()
    }

    fn env_file(&mut self, path: &Path, env: &mut Env) {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_ENV_FILE + 1).read_to_end(&mut bytes));
        let fault = match read {
            Err(error) => Some(Fault::new(format!("{}: {}", located(path), sentence(&error)))),
            Ok(_) if bytes.len() as u64 > MAX_ENV_FILE => {
                Some(Fault::new(format!("{} has more than {} MiB", located(path), MAX_ENV_FILE >> 20)))
            }
            Ok(_) => None,
        };
        if let Some(fault) = fault {
            return self.complain(self.place_of("env_file"), fault);
        }
        let place = |line, path_in: String| Place { file: Some(path.to_owned()), line, path: path_in };
        let text = match decode(bytes) {
            Ok(text) => text,
            Err((line, fault)) => return self.complain(place(line, String::new()), fault),
        };
        let (variables, faults) = dotenv::parse(&text);
        for (line, fault) in faults {
            self.complain(place(Some(line), String::new()), fault);
        }
        for variable in variables {
            if variable.refers {
                let fault =
                    Fault::new("`${…}` stays as it is: stead expands no variables").hint("single quotes say so");
                self.warn(place(Some(variable.line), variable.key.clone()), fault);
            }
            env.insert(variable.key, variable.value);
        }
    }

    /// Messages name the variable and never its value: it may be a secret.
    fn variables(&mut self, entry: &Entry, env: &mut Env) {
        let place = self.place(entry);
        let Value::Map(variables) = &entry.value.value else {
            if !entry.value.is_null() {
                let fault = Fault::new("variables are written as a mapping").hint("`env: { KEY: value }`");
                self.complain(place, fault);
            }
            return;
        };
        for Entry { key, line, value, .. } in variables {
            let place = self.at(*line, format!("{}{}", place.path, step(&place.path, key)));
            let fault = match &value.value {
                _ if !is_variable(key) => Fault::new("is not the name of a variable"),
                Value::Scalar { kind: Kind::Null, .. } => {
                    env.remove(key);
                    continue;
                }
                Value::Scalar { kind: Kind::Empty, .. } => Fault::new("has no value")
                    .hint("`\"\"` is the empty text, `null` takes away what an `env_file` sets"),
                Value::Scalar { text, .. } if text.contains('\0') => Fault::new("a variable has no NUL character"),
                Value::Scalar { text, .. } => {
                    env.insert(key.clone(), text.clone());
                    continue;
                }
                Value::List(_) | Value::Map(_) => wanted("a text", value).hint("quote it if the app reads JSON"),
            };
            self.complain(place, fault);
        }
    }
}
