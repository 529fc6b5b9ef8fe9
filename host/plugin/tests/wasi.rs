//! The slice of WASI that a plugin may be granted: what is in it works, and there is nothing behind it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use http::Uri;
use penstock_core::plugin::{
    ActiveRevision, Capabilities, FaultKind, PluginFault, PluginLimits, PluginSpec, PolicyWorker,
};
use penstock_testing::guests::{self, PRINTER};
use support::{
    exchange::{facts, request, rule},
    facts::{Host, call, spec},
    log::logged,
};

fn printer(granted: Capabilities) -> PluginSpec {
    PluginSpec { capabilities: granted, ..spec("printer", guests::bytes(PRINTER)) }
}

fn granted() -> Capabilities {
    Capabilities { wasi: true, log: true, ..Capabilities::default() }
}

/// What the guest says that it did.
fn ask(worker: &dyn PolicyWorker, active: &ActiveRevision, what: &str) -> Result<String, PluginFault> {
    let mut head = request();
    head.uri = Uri::try_from(format!("/?{what}")).unwrap();
    worker.on_request(&call(active), &facts(&rule()), &mut head).at_once()?;
    Ok(head.headers["x-did"].to_str().unwrap().to_owned())
}

#[test]
fn it_is_refused_unless_it_is_granted() {
    let host = Host::start();
    let spec = printer(Capabilities { log: true, ..Capabilities::default() });
    host.apply(&[&spec]);
    let (rejection, _) = host.rejected(&spec);
    assert_eq!(rejection.reason, "ImportNotGranted");
    assert!(rejection.message.contains("more of WASI (granted by `spec.capabilities.wasi: true`"), "{rejection:?}");
}

#[test]
fn clocks_and_random_numbers_work_and_there_is_nothing_else() {
    let host = Host::start();
    let active = host.activate(&printer(granted()));
    let worker = host.host.runtime().worker();
    let ask = |what: &str| ask(&*worker, &active, what).unwrap();
    assert_eq!([ask("time"), ask("random")], ["true", "16"]);
    assert_eq!(ask("look"), "0 0 0", "arguments, variables and folders");
    assert_eq!(ask("connect"), "access-denied");
    assert_eq!(ask("poll"), "4 true", "all of them are ready, and standard input is at its end");
}

#[test]
fn what_it_prints_becomes_lines_of_its_log_and_no_more_than_a_bounded_number_of_bytes() {
    // From the beginning: what nobody wants to hear at first, tracing does not ask for again.
    let text = logged(|| {
        let host = Host::start();
        let active = host.activate(&printer(granted()));
        assert_eq!(ask(&*host.host.runtime().worker(), &active, "print").unwrap(), "66");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].contains("INFO plugin: one plugin=\"default/printer\" request_id=\"r1\""), "{text}");
    assert!(lines[1].contains("plugin: two "), "{text}");
    assert!(lines[2].contains("plugin: xxx"), "{text}");
}

#[test]
fn without_a_log_it_prints_to_nobody() {
    let text = logged(|| {
        let host = Host::start();
        let active = host.activate(&printer(Capabilities { log: false, ..granted() }));
        assert_eq!(ask(&*host.host.runtime().worker(), &active, "print").unwrap(), "66");
    });
    assert_eq!(text, "");
}

#[test]
fn what_it_must_not_do_is_a_fault_and_the_next_exchange_works() {
    let host = Host::start();
    let spec = printer(granted());
    // A slow machine may take its time to look for faults.
    let limits = PluginLimits { hook_time: std::time::Duration::from_secs(10), ..spec.limits.clone() };
    let active = host.activate(&PluginSpec { limits, ..spec });
    let worker = host.host.runtime().worker();
    for (what, kind, message) in [
        ("sleep", FaultKind::InvalidAnswer, "it wants to wait for 1s, but a hook decides at once"),
        ("hoard", FaultKind::InvalidAnswer, "resource table has no free keys"),
        ("too-random", FaultKind::InvalidAnswer, "exceeds limit"),
        ("exit", FaultKind::InvalidAnswer, "exit"),
    ] {
        let fault = ask(&*worker, &active, what).unwrap_err();
        assert_eq!(fault.kind, kind, "{what}: {fault}");
        assert!(fault.message.contains(message), "{what}: {fault}");
        assert_eq!(ask(&*worker, &active, "random").unwrap(), "16", "after {what}");
    }
}
