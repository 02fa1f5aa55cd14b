//! What the caps of a fleet come to.

use crate::client::render::list::caps_and_machine;
use crate::core::spec::Spec;
use crate::core::view::InstanceView;
use crate::os::host;
use std::path::Path;

/// Said once by `check`: PM2's users have caps that were measured otherwise.
pub const WHOLE_TREE: &str =
    "a cap (max_memory_restart) counts the app's whole tree of processes, where PM2 counted its main process alone";

/// The caps that apps have, one for each instance.
#[must_use]
pub fn of_specs(specs: &[Spec]) -> Vec<u64> {
    let caps = |spec: &Spec| {
        let cap = spec.max_memory_restart?;
        Some(std::iter::repeat_n(cap.0, spec.instances.unwrap_or(1) as usize))
    };
    specs.iter().filter_map(caps).flatten().collect()
}

/// Those of all that stead knows.
#[must_use]
pub fn of_views(views: &[InstanceView]) -> Vec<u64> {
    views.iter().filter_map(|view| view.memory_cap_bytes).collect()
}

/// What is to be said where the caps together are above the machine's memory.
#[must_use]
pub fn warning(caps: &[u64]) -> Option<String> {
    caps_and_machine(caps, host::meminfo(Path::new("/proc")).total?)
}
