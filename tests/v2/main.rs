//! stead under cgroup v2 alone: each test boots a guest, a real kernel that is an ordinary process, and runs a script in it.

mod causes;
mod clock;
mod fleet;
mod guest;
mod machine;
mod memory;
mod reboot;
mod scope;
mod service;
mod shortage;
