//! The binary as a process: files in, traffic through, status out.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed, helpers included")]

mod changes;
mod command_line;
mod echo;
mod examples;
mod greeter;
mod grpc_web;
mod ingress;
mod life;
mod outbound;
mod plugin_tools;
mod plugins;
mod problems;
mod registries;
mod secrets;
mod shared_limits;
mod streaming;
mod upgrades;
mod world;
