//! The whole life of a fleet in virtual time: the core, a scripted kernel under it, and a daemon that may die between any two
//! actions. Days pass in milliseconds, and nothing sleeps.
//!
//! [`story`] runs the text files in `stories/` against their golden transcripts, [`phases`] asks every phase every question,
//! [`random`] lets chance write the stories. The laws in [`laws`] hold in all of them. [`scale`] has many instances, and years.

mod app;
mod kernel;
mod laws;
mod phases;
mod random;
mod scale;
mod story;
mod words;
mod world;
