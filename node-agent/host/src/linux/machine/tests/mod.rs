//! A real machine's host over a tree of files and calls that are only written down.

mod boots;
mod fake;
mod guests;
mod holds;
mod jumps;
mod records;
mod returns;
mod settles;
mod stages;
mod stands;
mod trust;
mod uninstalls;
