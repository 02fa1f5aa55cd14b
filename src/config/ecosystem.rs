//! An ecosystem file as a whole: its apps, and what can only be wrong between them.

use super::app::{Outcome, Source, resolve, similar};
use super::attributes::{COMMENT, Standing, find, is_comment, like};
use super::file::{load, parse, step};
use super::health::of_the_fleet;
use super::node::{Entry, Node, Value};
use super::notify;
use super::problem::{Fault, Place, Problem, Problems, in_order, shown};
use super::surroundings::Surroundings;
use crate::core::depend::cycle;
use crate::core::health::Rules;
use crate::core::notify::Notifier;
use crate::core::spec::{Need, Spec};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;

/// The files that are looked for where none is named, in this order.
pub const DEFAULT_NAMES: &[&str] = &["ecosystem.yaml", "ecosystem.yml", "ecosystem.json"];

/// Keys beside `apps`.
const TOP: &[&str] = &["apps", "deploy", "health", "notify"];

/// Specs that can be started, and what is doubtful about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ecosystem {
    /// In the order of the file.
    pub specs: Vec<Spec>,
    /// Of `health` beside `apps`; `None`: the file says nothing of it.
    pub rules: Option<Rules>,
    /// Of `notify` beside `apps`; `None`: the file says nothing of it.
    pub notifiers: Option<Vec<Notifier>>,
    pub warnings: Vec<Problem>,
}

/// Whether an argument of `start` is an ecosystem file, by its name alone: `-`, `*.yaml`, `*.yml`, `*.json`, each also with
/// `.example` behind it, and PM2's `*.config.js`, which [`read`] refuses with what to do.
#[must_use]
pub fn is_ecosystem(argument: &str) -> bool {
    let endings = [".yaml", ".yml", ".json", ".config.js", ".config.cjs", ".config.mjs"];
    let name = argument.strip_suffix(".example").unwrap_or(argument);
    name == "-" || endings.iter().any(|ending| name.ends_with(ending))
}

/// Reads an ecosystem file; `-` is the standard input. Relative paths in it are relative to it.
///
/// # Errors
/// Everything that is wrong with it, in order of line.
pub fn read(path: &Path, env_name: Option<&str>, around: &Surroundings<'_>) -> Result<Ecosystem, Problems> {
    let file = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    let full = around.cwd.join(file);
    let text = load(&full, file)?;
    // A pipe has no directory of its own: `-`, and the shell's `<(…)`, which is /dev/fd/63.
    let base = if full.starts_with("/dev") { &around.cwd } else { full.parent().unwrap_or(&around.cwd) };
    let (tree, mut problems) = parse(&text, file);
    let Some(tree) = tree.filter(|tree| !tree.is_empty()) else {
        if problems.is_empty() {
            let place = Place { file: Some(file.to_owned()), ..Place::default() };
            problems.push(Fault::new("is empty").hint(EXAMPLE).at(place));
        }
        return Err(Problems::new(problems));
    };
    let source = Source { file: Some(file), base: base.components().collect(), env_name, around };
    let mut whole = Whole { problems, ..Whole::new(&source, file) };
    let apps = whole.apps(&tree);
    let outcomes = apps.iter().filter_map(|(path, node)| whole.app(&source, path, node)).collect();
    whole.finish(outcomes, env_name)
}

/// Makes a spec of attributes that the command line gives, by their snake_case names. Paths are relative to the caller.
///
/// # Errors
/// Everything that is wrong with them.
pub fn script(attributes: Vec<(String, serde_json::Value)>, around: &Surroundings<'_>) -> Result<Ecosystem, Problems> {
    let entry = |(key, value): &(String, serde_json::Value)| {
        let value = Rc::new(Node::from_json(value));
        Entry { key: key.clone(), line: 0, value, merged: false }
    };
    let entries: Vec<Entry> = attributes.iter().map(entry).collect();
    let source = Source { file: None, base: around.cwd.clone(), env_name: None, around };
    let outcome = resolve(&source, String::new(), 0, &entries);
    let file = Path::new("");
    Whole::new(&source, file).finish(vec![outcome], None)
}

const EXAMPLE: &str = "apps: [{ name: web, script: app.py }]";

struct Whole<'a> {
    source: &'a Source<'a>,
    file: &'a Path,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    rules: Option<Rules>,
    notifiers: Option<Vec<Notifier>>,
}

impl<'a> Whole<'a> {
    fn new(source: &'a Source<'a>, file: &'a Path) -> Whole<'a> {
        Whole { source, file, problems: Vec::new(), warnings: Vec::new(), rules: None, notifiers: None }
    }

    fn at(&self, line: usize, path: &str) -> Place {
        Place { file: Some(self.file.to_owned()), line: Some(line), path: path.to_owned() }
    }

    fn complain(&mut self, line: usize, path: &str, fault: Fault) {
        self.problems.push(fault.at(self.at(line, path)));
    }

    /// The apps with their paths: of `apps`, of a bare list, or the one that the whole file is.
    fn apps<'t>(&mut self, tree: &'t Rc<Node>) -> Vec<(String, &'t Node)> {
        let (path, node) = match &tree.value {
            Value::List(_) => ("", tree),
            Value::Map(entries) => match entries.iter().find(|entry| entry.key == "apps") {
                Some(apps) => {
                    self.beside(entries);
                    ("apps", &apps.value)
                }
                None if entries.iter().any(|entry| find(&entry.key).is_some_and(|known| known.name == "script")) => {
                    return vec![(String::new(), tree)];
                }
                None => {
                    self.beside(entries);
                    if self.problems.is_empty() {
                        self.complain(tree.line, "", Fault::new("has no `apps`").hint(EXAMPLE));
                    }
                    return Vec::new();
                }
            },
            Value::Scalar { .. } => {
                let message = format!("is {}, not a list of apps", tree.describe());
                self.complain(tree.line, "", Fault::new(message).hint(EXAMPLE));
                return Vec::new();
            }
        };
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.complain(node.line, path, Fault::new("has no app").hint(EXAMPLE));
                Vec::new()
            }
            Value::List(items) => {
                items.iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item.as_ref())).collect()
            }
            Value::Map(entries) if entries.iter().any(|entry| find(&entry.key).is_some()) => vec![(path.into(), node)],
            _ => {
                let message = format!("is {}, not a list of apps", node.describe());
                self.complain(node.line, path, Fault::new(message).hint("each app begins with `- name: …`"));
                Vec::new()
            }
        }
    }

    /// The keys beside `apps`.
    fn beside(&mut self, entries: &[Entry]) {
        for entry in entries {
            let place = self.at(entry.line, &step("", &entry.key));
            match entry.key.as_str() {
                "apps" | "$schema" => {}
                key if key.starts_with("x-") => {}
                "deploy" => self.warnings.push(Fault::new("PM2's deployment is not stead's and is ignored").at(place)),
                "health" => self.health(entry),
                "notify" => self.notify(entry),
                key => {
                    let fault = Fault::new("unknown key");
                    let fault = match like(&key.chars().take(40).collect::<String>(), TOP.iter().copied()) {
                        _ if is_comment(key) => fault.hint(COMMENT),
                        Some(known) => fault.hint(format!("did you mean `{known}`?")),
                        None if find(key).is_some() => {
                            fault.hint("it is an attribute of an app: write it below the app")
                        }
                        None => fault.hint("a key of your own begins with `x-`"),
                    };
                    self.problems.push(fault.at(place));
                }
            }
        }
    }

    fn health(&mut self, entry: &Entry) {
        if entry.value.is_off() {
            return;
        }
        let source = self.source;
        match of_the_fleet(&entry.value, |path| source.around.path(&source.base, path)) {
            Ok(rules) => self.rules = Some(rules),
            Err(faults) => faults.into_iter().for_each(|(line, fault)| self.complain(line, "health", fault)),
        }
    }

    fn notify(&mut self, entry: &Entry) {
        match notify::of_the_fleet(&entry.value, self.source) {
            Ok(notifiers) => self.notifiers = Some(notifiers),
            Err(faults) => faults.into_iter().for_each(|(line, path, fault)| self.complain(line, &path, fault)),
        }
    }

    fn app<'t>(&mut self, source: &'t Source<'t>, path: &str, node: &'t Node) -> Option<Outcome<'t>> {
        match &node.value {
            Value::Map(entries) => Some(resolve(source, path.to_owned(), node.line, entries)),
            _ => {
                let message = format!("{} is not an app", node.describe());
                self.complain(node.line, path, Fault::new(message).hint("an app is a mapping with a `script`"));
                None
            }
        }
    }

    fn finish(mut self, outcomes: Vec<Outcome<'_>>, env_name: Option<&str>) -> Result<Ecosystem, Problems> {
        self.names(&outcomes);
        self.sockets(&outcomes);
        self.dependencies(&outcomes);
        self.environment(&outcomes, env_name);
        self.unused(&outcomes);
        let mut specs = Vec::new();
        for outcome in outcomes {
            self.problems.extend(outcome.problems);
            self.warnings.extend(outcome.warnings);
            specs.extend(outcome.spec);
        }
        if !self.problems.is_empty() {
            return Err(Problems::new(self.problems));
        }
        in_order(&mut self.warnings);
        Ok(Ecosystem { specs, rules: self.rules, notifiers: self.notifiers, warnings: self.warnings })
    }

    /// No two apps of one name, and no app with the name of another's instance.
    fn names(&mut self, outcomes: &[Outcome<'_>]) {
        let mut known: HashMap<&str, &Outcome<'_>> = HashMap::new();
        let named = || outcomes.iter().filter_map(|outcome| Some((outcome.name.as_ref()?.as_str(), outcome)));
        for (name, outcome) in named() {
            if let Some(first) = known.get(name) {
                let message = format!("another app has the name `{name}`: {}", first.place);
                self.problems.push(Fault::new(message).at(outcome.place.clone()));
            } else {
                known.insert(name, outcome);
            }
        }
        for (name, outcome) in named() {
            let Some((stem, number)) = name.rsplit_once('-') else { continue };
            let instances = known.get(stem).and_then(|other| other.instances).unwrap_or(0);
            if number.parse::<u32>().is_ok_and(|index| index < instances && index.to_string() == number) {
                let message = format!("`{name}` is also an instance of `{stem}`, which has {instances}");
                self.problems.push(Fault::new(message).at(outcome.place.clone()));
            }
        }
    }

    fn sockets(&mut self, outcomes: &[Outcome<'_>]) {
        let mut known = HashMap::new();
        for (listen, place) in outcomes.iter().flat_map(|outcome| &outcome.listen) {
            if let Some(first) = known.insert(listen, place) {
                let message = format!("{listen} is held already: {first}");
                self.problems.push(Fault::new(message).at(place.clone()));
            }
        }
    }

    /// Each dependency is there, can come to be what is needed of it, and nobody waits for itself.
    fn dependencies(&mut self, outcomes: &[Outcome<'_>]) {
        let names: BTreeSet<&str> =
            outcomes.iter().filter_map(|outcome| Some(outcome.name.as_ref()?.as_str())).collect();
        let specs = || outcomes.iter().filter_map(|outcome| Some((outcome.spec.as_ref()?, &outcome.depends_on)));
        for (spec, place) in specs() {
            for (name, need) in &spec.depends_on {
                let other = specs().map(|(other, _)| other).find(|other| other.name == *name);
                let fault = match (other, similar(name.as_str(), &names)) {
                    (None, _) if names.contains(name.as_str()) => continue,
                    (None, Some(near)) => {
                        Fault::new(format!("there is no app `{name}`")).hint(format!("did you mean `{near}`?"))
                    }
                    (None, None) => {
                        let message = format!("`{name}` is not in this file: it has to be there before");
                        self.warnings.push(Fault::new(message).at(place.clone()));
                        continue;
                    }
                    (Some(other), _) if *need == Need::Healthy && other.readiness.health_check.is_none() => {
                        Fault::new(format!("`{name}` has no `health_check`, so it cannot be healthy"))
                            .hint("give it one, or write `started`")
                    }
                    (Some(other), _) if *need == Need::Done && other.policy.autorestart => {
                        Fault::new(format!("`{name}` is started again whenever it ends, so it is never done"))
                            .hint(format!("give `{name}` `autorestart: false`, or write `started`"))
                    }
                    (Some(_), _) => continue,
                };
                self.problems.push(fault.at(place.clone()));
            }
        }
        if let Some(way) = cycle(&specs().map(|(spec, _)| (&spec.name, &spec.depends_on)).collect()) {
            let first = way.split(' ').next().unwrap_or_default();
            if let Some((_, place)) = specs().find(|(spec, _)| spec.name.as_str() == first) {
                let fault = Fault::new(format!("apps depend on each other in a circle: {way}"));
                self.problems.push(fault.hint("one of them has to start without the other").at(place.clone()));
            }
        }
    }

    /// `--env` names an environment that some app has.
    fn environment(&mut self, outcomes: &[Outcome<'_>], env_name: Option<&str>) {
        let known: BTreeSet<&str> = outcomes.iter().flat_map(|outcome| outcome.environments.iter().copied()).collect();
        let Some(name) = env_name.filter(|name| !known.contains(name)) else { return };
        let fault = Fault::new(format!("no app has `env_{}`", shown(name)));
        let fault = match (similar(name, &known), known.is_empty()) {
            (Some(near), _) => fault.hint(format!("did you mean `--env {near}`?")),
            (None, true) => fault.hint("no app has an `env_<name>` at all"),
            (None, false) => {
                let names: Vec<String> = known.iter().take(20).map(|name| shown(name)).collect();
                fault.hint(format!("there are: {}", names.join(", ")))
            }
        };
        let place = Place { file: Some(self.file.to_owned()), line: None, path: "--env".into() };
        self.problems.push(fault.at(place));
    }

    /// One warning for each attribute that waits for a later version, one for all that are PM2's own affair.
    fn unused(&mut self, outcomes: &[Outcome<'_>]) {
        let mut later: BTreeMap<&str, (Place, Vec<String>)> = BTreeMap::new();
        let mut foreign: Option<(Place, BTreeSet<&str>)> = None;
        for outcome in outcomes {
            let app = outcome.name.as_ref().map_or("an app without a name", |name| name.as_str());
            for (attribute, place) in &outcome.unused {
                if attribute.standing == Standing::Foreign {
                    foreign.get_or_insert_with(|| (place.clone(), BTreeSet::new())).1.insert(attribute.name);
                } else {
                    later.entry(attribute.name).or_insert_with(|| (place.clone(), Vec::new())).1.push(app.to_owned());
                }
            }
        }
        for (name, (place, apps)) in later {
            let message = format!("`{name}` is not supported yet and is ignored (of {})", listed(&apps));
            self.warnings.push(Fault::new(message).at(place));
        }
        if let Some((place, names)) = foreign {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let verb = if names.len() == 1 { "means nothing to stead and is" } else { "mean nothing to stead and are" };
            self.warnings.push(Fault::new(format!("{} {verb} ignored", names.join(", "))).at(place));
        }
    }
}

/// A dozen names, and the number of the rest.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown} and {} more", names.len() - 12) } else { shown }
}
