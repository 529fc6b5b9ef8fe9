//! The report as tables.

use penstock_controller::{Health, Report, ResourceReport};
use serde_json::Value;

use crate::commands::table::Table;

/// One line for each resource; what is wrong stands beside it.
pub(crate) fn brief(report: &Report) -> String {
    let mut out = head(report);
    let mut resources = Table::new(&["KIND", "NAME", "STATE", "REASON", "MESSAGE"]);
    for resource in &report.resources {
        let conditions = conditions(resource);
        // A Gateway is as bad as its listeners, and only they say why. Otherwise the first one: the others follow from it.
        let rank = |it: &&ConditionRow<'_>| (it.health, resource.kind == "Gateway" && !it.part.is_empty());
        let worst = conditions.iter().rev().max_by_key(rank);
        let (reason, message) = match worst {
            Some(worst) if worst.health != Health::Good => (worst.reason, worst.explanation()),
            _ => ("", String::new()),
        };
        let state = worst.map_or("", |worst| worst.health.as_str());
        resources.row([&*resource.kind, &full_name(resource), state, reason, &message]);
    }
    resources.write(&mut out, "RESOURCES");
    plugins(report).write(&mut out, "PLUGINS");
    tail(report, &mut out);
    out
}

/// One line for each condition.
pub(crate) fn wide(report: &Report) -> String {
    let mut out = head(report);
    let columns = ["KIND", "NAME", "PART", "CONDITION", "STATUS", "REASON", "GENERATION", "SINCE", "MESSAGE"];
    let mut table = Table::new(&columns);
    for resource in &report.resources {
        for it in conditions(resource) {
            let generation = it.generation.to_string();
            let row = [&*resource.kind, &full_name(resource), &it.part, it.type_, it.status, it.reason, &generation];
            table.row(row.into_iter().chain([it.since, it.message]));
        }
    }
    table.write(&mut out, "CONDITIONS");
    plugins(report).write(&mut out, "PLUGINS");
    let mut sockets = Table::new(&["ADDRESS", "STATE", "MESSAGE"]);
    for socket in &report.sockets {
        let state = if socket.bound { "bound" } else { "failed" };
        sockets.row([&*socket.address.to_string(), state, socket.message.as_deref().unwrap_or_default()]);
    }
    sockets.write(&mut out, "SOCKETS");
    tail(report, &mut out);
    out
}

fn head(report: &Report) -> String {
    match &report.waiting_for {
        Some(waiting) => format!("penstock {}, not ready: {waiting}\n", report.version),
        None => format!("penstock {}, ready\n", report.version),
    }
}

/// Problems in files.
fn tail(report: &Report, out: &mut String) {
    let mut problems = Table::new(&["PLACE", "PROBLEM", "IN EFFECT"]);
    for problem in &report.problems {
        let effect = match &problem.resource {
            Some(_) if problem.last_good_serves => "the last good version",
            Some(_) => "nothing of it",
            None => "what stood there before",
        };
        problems.row([&*problem.place, &*problem.message, effect]);
    }
    problems.write(out, "PROBLEMS IN FILES");
}

/// Active and candidate revision of each plugin.
fn plugins(report: &Report) -> Table {
    let mut table = Table::new(&["NAME", "ACTIVE", "STANDING", "CANDIDATE", "REASON", "MESSAGE"]);
    for resource in report.resources.iter().filter(|resource| resource.kind == "WasmPlugin") {
        let (active, candidate) = (&resource.status["active"], &resource.status["candidate"]);
        let standing = standing(&resource.status);
        let active = match active["name"].as_str() {
            Some(name) => format!("{name} {} {}", text(&active["version"]), revision(active)),
            None => "none".to_owned(),
        };
        let pending = match candidate["phase"].as_str() {
            Some(phase) => format!("{phase} {}", revision(candidate)),
            None => String::new(),
        };
        let message = format!("{}{}", text(&candidate["message"]), tried(&candidate["retry"]));
        table.row([&*full_name(resource), &*active, &*standing, &*pending, text(&candidate["reason"]), &message]);
    }
    table
}

/// How often something was tried that may work later.
fn tried(retry: &Value) -> String {
    match retry["attempts"].as_u64() {
        None => String::new(),
        Some(1) => format!("; tried once, again after about {}", text(&retry["pause"])),
        Some(10..) => {
            format!("; tried {} times or more, again after about {}", retry["attempts"], text(&retry["pause"]))
        }
        Some(_) => format!("; tried {} times, again after about {}", retry["attempts"], text(&retry["pause"])),
    }
}

/// Whether what serves has proven itself.
fn standing(status: &Value) -> String {
    match status["probation"]["until"].as_str() {
        Some(until) => format!("probation until {until}"),
        None if status["active"].is_null() => String::new(),
        None if status["active"]["restored"] == true => "good, restored".to_owned(),
        None => "good".to_owned(),
    }
}

/// Generation and the beginning of the digest, which is enough to tell revisions apart.
fn revision(revision: &Value) -> String {
    let digest = text(&revision["digest"]);
    let short = digest.strip_prefix("sha256:").unwrap_or(digest).get(..12).unwrap_or("");
    match short {
        "" => format!("(generation {})", revision["generation"]),
        short => format!("(generation {}, {short})", revision["generation"]),
    }
}

struct ConditionRow<'r> {
    part: String,
    type_: &'r str,
    status: &'r str,
    reason: &'r str,
    message: &'r str,
    since: &'r str,
    generation: i64,
    health: Health,
}

impl ConditionRow<'_> {
    /// The message, with the part that it is about.
    fn explanation(&self) -> String {
        match &*self.part {
            "" => self.message.to_owned(),
            part => format!("{part}: {}", self.message),
        }
    }
}

/// The conditions of a resource and of its parts.
fn conditions(resource: &ResourceReport) -> Vec<ConditionRow<'_>> {
    let status = &resource.status;
    let mut rows = rows("", status);
    let parts = [("listeners", None), ("parents", Some("parentRef")), ("ancestors", Some("ancestorRef"))];
    for (list, reference) in parts {
        for part in status[list].as_array().into_iter().flatten() {
            let named = reference.map_or(part, |reference| &part[reference]);
            let name = match named["sectionName"].as_str() {
                Some(section) => format!("{}#{section}", text(&named["name"])),
                None => text(&named["name"]).to_owned(),
            };
            rows.extend(self::rows(&name, part));
        }
    }
    rows
}

fn rows<'r>(part: &str, status: &'r Value) -> Vec<ConditionRow<'r>> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let row = |condition: &'r Value| {
        let (type_, status) = (text(&condition["type"]), text(&condition["status"]));
        let reason = text(&condition["reason"]);
        ConditionRow {
            part: part.to_owned(),
            type_,
            status,
            reason,
            message: text(&condition["message"]),
            since: text(&condition["lastTransitionTime"]),
            generation: condition["observedGeneration"].as_i64().unwrap_or_default(),
            health: Health::of(type_, status, reason),
        }
    };
    conditions.map(row).collect()
}

fn full_name(resource: &ResourceReport) -> String {
    match &*resource.namespace {
        "" => resource.name.clone(),
        namespace => format!("{namespace}/{}", resource.name),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use penstock_controller::ProblemReport;
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let resource = |kind: &str, name: &str, status| ResourceReport {
            kind: kind.into(),
            namespace: "default".into(),
            name: name.into(),
            status,
        };
        let condition = |type_: &str, status: &str, reason: &str, message: &str| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": message,
                "observedGeneration": 2, "lastTransitionTime": "2026-11-21T13:00:00Z",
            })
        };
        let shadowed = json!({
            "parentRef": { "name": "gw" },
            "conditions": [
                condition("Accepted", "True", "Accepted", ""),
                condition("RulesOverlap", "True", "OtherRuleWins", "HTTPRoute `default/old` takes the requests"),
            ],
        });
        let parent = json!({
            "parentRef": { "name": "gw", "sectionName": "http" },
            "conditions": [
                condition("Accepted", "True", "Accepted", ""),
                condition("ResolvedRefs", "False", "BackendNotFound", "there is no Service `wbe`"),
            ],
        });
        let plugin = json!({
            "conditions": [condition("Degraded", "True", "ConfigureTrapped", "configure trapped: unreachable")],
            "active": {
                "name": "header-rules", "version": "0.1.0", "generation": 1, "digest": "sha256:0123456789abcdef", "restored": true,
            },
            "candidate": {
                "generation": 2, "phase": "Rejected", "reason": "ConfigureTrapped", "message": "configure trapped: unreachable",
            },
        });
        Report {
            version: "0.1.0".into(),
            waiting_for: None,
            resources: vec![
                resource("Gateway", "gw", json!({ "conditions": [condition("Programmed", "True", "Programmed", "")] })),
                resource("HTTPRoute", "shadowed", json!({ "parents": [shadowed] })),
                resource("HTTPRoute", "web", json!({ "parents": [parent] })),
                resource("WasmPlugin", "headers", plugin),
            ],
            sockets: vec![],
            problems: vec![ProblemReport {
                place: "r.yaml:3:5".into(),
                resource: None,
                message: "unknown kind `X`".into(),
                last_good_serves: false,
            }],
        }
    }

    #[test]
    fn the_table_says_what_is_wrong_and_what_serves() {
        assert_eq!(
            brief(&report()),
            "\
penstock 0.1.0, ready

RESOURCES
KIND        NAME              STATE    REASON            MESSAGE
Gateway     default/gw        ok
HTTPRoute   default/shadowed  warning  OtherRuleWins     gw: HTTPRoute `default/old` takes the requests
HTTPRoute   default/web       failed   BackendNotFound   gw#http: there is no Service `wbe`
WasmPlugin  default/headers   failed   ConfigureTrapped  configure trapped: unreachable

PLUGINS
NAME             ACTIVE                                           STANDING        CANDIDATE                REASON            MESSAGE
default/headers  header-rules 0.1.0 (generation 1, 0123456789ab)  good, restored  Rejected (generation 2)  ConfigureTrapped  configure trapped: unreachable

PROBLEMS IN FILES
PLACE       PROBLEM           IN EFFECT
r.yaml:3:5  unknown kind `X`  what stood there before
"
        );
    }

    #[test]
    fn the_standing_of_what_serves() {
        let check = |status: Value, expected| assert_eq!(standing(&status), expected);
        check(json!({}), "");
        check(json!({ "active": { "generation": 1 } }), "good");
        check(json!({ "active": { "generation": 1, "restored": true } }), "good, restored");
        let probation = json!({ "active": {}, "probation": { "until": "2026-11-21T13:00:30Z", "maxFaults": 5 } });
        check(probation, "probation until 2026-11-21T13:00:30Z");
    }

    #[test]
    fn how_often_something_was_tried() {
        let check = |attempts: Value, expected| {
            assert_eq!(tried(&json!({ "attempts": attempts, "pause": "1s" })), expected);
        };
        check(Value::Null, "");
        check(1.into(), "; tried once, again after about 1s");
        check(3.into(), "; tried 3 times, again after about 1s");
        check(20.into(), "; tried 20 times or more, again after about 1s");
    }

    #[test]
    fn wide_shows_every_condition() {
        let wide = wide(&report());
        let line = wide.lines().find(|line| line.contains("ResolvedRefs")).unwrap();
        let cells: Vec<_> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            [
                "HTTPRoute",
                "default/web",
                "gw#http",
                "ResolvedRefs",
                "False",
                "BackendNotFound",
                "2",
                "2026-11-21T13:00:00Z",
                "there is no Service `wbe`"
            ]
        );
    }
}
