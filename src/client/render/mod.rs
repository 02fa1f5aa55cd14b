//! Views as text. Pure: what is shown depends on the view, the screen and the moment that are given.

pub mod chart;
pub mod describe;
pub mod health;
pub mod jlist;
pub mod list;
pub mod moment;
pub mod plan;
pub mod reply;
pub mod report;
pub mod screen;
pub mod table;
pub mod text;
pub mod trend;
pub mod why;
