//! An ecosystem file becomes specs.
//!
//! [`file`] makes a tree of the text (the only place that knows YAML), [`ecosystem`] finds the apps in it, [`app`] makes a spec of
//! each; [`program`] finds what it runs, [`environment`] its variables, [`value`] says what a single value means. Nothing stops
//! at the first mistake: every problem is collected with its place.

mod app;
pub mod attributes;
mod dotenv;
mod ecosystem;
mod environment;
mod file;
mod health;
mod listen;
mod logs;
mod node;
mod notify;
mod policy;
mod problem;
mod process;
mod program;
mod schema;
mod readiness;
mod surroundings;
#[cfg(test)]
mod tests;
mod value;
mod watch;

pub use attributes::{ATTRIBUTES, Attribute, Standing};
pub use ecosystem::{DEFAULT_NAMES, Ecosystem, is_ecosystem, read, script};
pub use problem::{Place, Problem, Problems};
pub use schema::schema;
pub use surroundings::Surroundings;
pub use value::size_of;
