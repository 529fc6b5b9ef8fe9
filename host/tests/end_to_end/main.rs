//! The binary as a process: files in, traffic through, status out.

mod changes;
mod command_line;
mod examples;
mod life;
mod plugins;
mod problems;
mod world;
