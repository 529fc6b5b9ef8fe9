//! What a reading finds: messages, and what stays in effect. Real files, no watching.

use std::fs;

use penstock_core::{Kind, ResourceRef};
use tempfile::TempDir;

use super::*;

/// A directory of resource files, and the source that reads it.
struct Folder {
    folder: TempDir,
    source: FileSource,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = FileSource::new([folder.path().to_owned()]);
        Self { folder, source }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// What changed, and what is wrong.
    fn read(&mut self) -> (Vec<String>, Vec<String>) {
        let reading = self.source.read();
        let prefix = format!("{}/", self.folder.path().display());
        let problems = reading.problems.iter().map(|problem| problem.to_string().replace(&prefix, ""));
        (reading.changes.iter().map(describe).collect(), problems.collect())
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Upsert(object) => {
            format!("{} generation {}", object.reference(), object.metadata().generation.unwrap_or_default())
        }
        Change::Delete(reference) => format!("{reference} deleted"),
        Change::File(path, stamp) => {
            let name = path.file_name().unwrap_or_default().display();
            format!("{name} {}", if stamp.is_some() { "there" } else { "gone" })
        }
        Change::Observe(_) | Change::Bundle(..) => panic!("files know no facts: {change:?}"),
    }
}

/// Hold `text`, as the only file, against the exact messages.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let mut folder = Folder::new();
    folder.write("r.yaml", text);
    let (_, problems) = folder.read();
    assert_eq!(problems, expected, "\n{text}");
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n    - port: 80\n";

#[test]
fn a_good_document_is_applied_and_nothing_is_wrong() {
    let mut folder = Folder::new();
    folder.write("r.yaml", SERVICE);
    assert_eq!(folder.read(), (vec!["Service/default/web generation 1".to_owned()], vec![]));
    assert_eq!(folder.read(), (vec![], vec![]), "reading the same again is no change");
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_the_nearest_valid_name() {
    check(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web
spec:
  parentRefs:
    - name: gw
  rules:
    - backendRef:
        - name: web
          port: 80
    - backendRefs:
        - name: web
          prot: 80
",
        &[
            "r.yaml:9:7: spec.rules[0]: unknown field `backendRef`; did you mean `backendRefs`?",
            "r.yaml:14:11: spec.rules[1].backendRefs[0]: unknown field `prot`; did you mean `port`?",
        ],
    );
}

#[test]
fn an_unknown_field_like_no_other_is_answered_by_the_list_of_fields() {
    check(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints: []\nxyzzy: 1\n",
        &[
            "r.yaml:6:1: unknown field `xyzzy`; possible here: addressType, apiVersion, endpoints, kind, metadata, ports, status",
        ],
    );
}

#[test]
fn a_wrong_type_says_what_was_expected_and_what_stands_there() {
    check(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, labels: {version: 1.5, stable: true}}
spec:
  gatewayClassName: 7
  listeners:
    name: http
    port: 80
",
        &[
            "r.yaml:3:40: metadata.labels.version: expected a string, found the number 1.5; write it in quotes: \"1.5\"",
            "r.yaml:3:53: metadata.labels.stable: expected a string, found the boolean true; write it in quotes: \"true\"",
            "r.yaml:5:21: spec.gatewayClassName: expected a string, found the integer 7; write it in quotes: \"7\"",
            "r.yaml:7:5: spec.listeners: expected a list, found a mapping",
        ],
    );
}

#[test]
fn a_value_outside_its_set_is_answered_by_the_nearest_one() {
    check(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {name: p}
spec:
  source: {file: {path: p.wasm}}
  failurePolicy: open
",
        &["r.yaml:6:18: spec.failurePolicy: `open` is not allowed here; did you mean `Open`?"],
    );
}

#[test]
fn missing_fields_are_named() {
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n    - name: http\n",
        &["r.yaml:6:7: spec.ports[0]: missing field `port`"],
    );
    check("apiVersion: v1\nmetadata: {name: web}\n", &["r.yaml:1:1: missing field `kind`"]);
    check("kind: Service\nmetadata: {name: web}\n", &["r.yaml:1:1: missing field `apiVersion`"]);
    check("apiVersion: v1\nkind: Service\n", &["r.yaml:1:1: missing field `metadata`"]);
    check(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: a\n",
        &["r.yaml:4:3: metadata: missing field `name`"],
    );
}

#[test]
fn kinds_and_versions_that_are_not_read_are_told_apart() {
    check(
        "apiVersion: v1\nkind: Servcie\nmetadata: {name: web}\n",
        &["r.yaml:2:7: kind: unknown kind `Servcie`; did you mean `Service`?"],
    );
    check(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\nmetadata: {name: web}\nspec: {}\n",
        &[
            "r.yaml:1:13: apiVersion: `gateway.networking.k8s.io/v1alpha2` has no kind HTTPRoute; use `gateway.networking.k8s.io/v1`",
        ],
    );
}

#[test]
fn what_is_no_resource_is_said_to_be_none() {
    check(
        "- a\n- b\n",
        &["r.yaml:1:1: expected a resource (a mapping with apiVersion, kind and metadata), found a list"],
    );
    check("kind: [Service]\n", &["r.yaml:1:7: kind: expected a string, found a list"]);
}

#[test]
fn text_that_is_no_yaml_keeps_its_place_in_the_file() {
    let text = format!("{SERVICE}---\nkind: \"Service\n");
    check(&text, &["r.yaml:8:7: not valid YAML: while scanning a quoted scalar, found unexpected end of stream"]);
    check("a: 1\na: 2\n", &["r.yaml:2:1: not valid YAML: duplicated key in mapping"]);
}

#[test]
fn a_value_that_only_the_type_refuses_has_its_place_too() {
    check(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: '???'\n",
        &["r.yaml:5:6: data.a: Invalid symbol 63, offset 0."],
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut folder = Folder::new();
    folder.write(
        "a.yaml",
        "kind: X\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: 1, type: 2}\n",
    );
    folder.write("b.yaml", "{");
    let (_, problems) = folder.read();
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn the_first_of_two_documents_with_one_name_is_used() {
    let mut folder = Folder::new();
    folder.write("a.yaml", &format!("# comment\n{SERVICE}"));
    folder.write("b.yaml", &format!("{SERVICE}---\n{SERVICE}"));
    let path = folder.folder.path().join("a.yaml");
    let (changes, problems) = folder.read();
    assert_eq!(changes, ["Service/default/web generation 1"]);
    let path = path.display().to_string();
    let name = path.rsplit('/').next().unwrap();
    assert_eq!(
        problems,
        [
            format!("b.yaml:1:1: duplicate of the resource at {name}:2, which is used"),
            format!("b.yaml:8:1: duplicate of the resource at {name}:2, which is used"),
        ]
    );
}

#[test]
fn json_and_lists_are_read_like_documents() {
    let mut folder = Folder::new();
    folder.write(
        "a.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}}
        ]}"#,
    );
    assert_eq!(folder.read().0, ["ConfigMap/a/c generation 1", "Namespace/a generation 1"].map(str::to_owned).to_vec());
}

#[test]
fn only_resource_files_of_the_directory_itself_are_read() {
    let mut folder = Folder::new();
    for name in [".r.yaml", "r.yaml~", ".r.yaml.swp", "README.md", "r.yaml.tmp"] {
        folder.write(name, "not read");
    }
    fs::create_dir(folder.folder.path().join("deep.yaml")).unwrap();
    assert_eq!(folder.read(), (vec![], vec![]));
}

#[test]
fn a_broken_document_keeps_its_last_good_version_and_harms_no_other() {
    let mut folder = Folder::new();
    let other = SERVICE.replace("web", "other");
    folder.write("r.yaml", &format!("{SERVICE}---\n{other}"));
    folder.read();

    let (broken, changed) = (SERVICE.replace("port:", "prot:"), other.replace("80", "81"));
    folder.write("r.yaml", &format!("{broken}---\n{changed}"));
    let (changes, problems) = folder.read();
    assert_eq!(changes, ["Service/default/other generation 2"]);
    assert_eq!(problems.len(), 2, "unknown `prot` and missing `port`: {problems:?}");

    folder.write("r.yaml", &format!("{SERVICE}---\n{changed}"));
    assert_eq!(folder.read(), (vec![], vec![]), "healed: what serves never changed");
}

#[test]
fn a_document_that_is_gone_is_deleted() {
    let mut folder = Folder::new();
    folder.write("r.yaml", SERVICE);
    folder.read();
    folder.write("r.yaml", "# nothing left\n");
    assert_eq!(folder.read(), (vec!["Service/default/web deleted".to_owned()], vec![]));
}

#[test]
fn nothing_is_deleted_because_of_a_file_that_cannot_be_understood() {
    let mut folder = Folder::new();
    folder.write("r.yaml", &format!("{SERVICE}---\n{}", SERVICE.replace("web", "other")));
    folder.read();
    folder.write("r.yaml", &format!("{SERVICE}---\nkind: [\n"));
    let (changes, problems) = folder.read();
    assert_eq!((changes.len(), problems.len()), (0, 1), "`other` may be what cannot be read");

    fs::remove_file(folder.folder.path().join("r.yaml")).unwrap();
    assert_eq!(folder.read().0.len(), 2, "but a file that is gone is gone");
}

#[test]
fn a_root_that_vanishes_deletes_nothing() {
    let mut folder = Folder::new();
    folder.write("r.yaml", SERVICE);
    folder.read();
    let moved = folder.folder.path().with_extension("moved");
    fs::rename(folder.folder.path(), &moved).unwrap();
    let (changes, problems) = folder.read();
    fs::rename(moved, folder.folder.path()).unwrap();
    assert_eq!(changes, Vec::<String>::new());
    assert!(problems[0].ends_with("cannot be read: No such file or directory (os error 2)"), "{problems:?}");
}

#[test]
fn generations_count_changes_of_the_spec() {
    let mut folder = Folder::new();
    folder.write("r.yaml", SERVICE);
    folder.read();
    folder.write("r.yaml", &SERVICE.replace("{name: web}", "{name: web, labels: {a: b}}"));
    assert_eq!(folder.read().0, ["Service/default/web generation 1"], "a label is no change of the spec");
    folder.write("r.yaml", &SERVICE.replace("80", "81"));
    assert_eq!(folder.read().0, ["Service/default/web generation 2"]);
}

#[test]
fn a_module_is_a_part_of_its_plugin() {
    let mut folder = Folder::new();
    let plugin = "apiVersion: penstock.dev/v1alpha1\nkind: WasmPlugin\nmetadata: {name: p}\nspec: {source: {file: {path: ./p.wasm}}}\n";
    folder.write("r.yaml", plugin);
    let gone = folder.read().0;
    assert_eq!(gone, ["p.wasm gone", "WasmPlugin/default/p generation 1"]);

    folder.write("p.wasm", "one");
    assert_eq!(folder.read().0, ["p.wasm there", "WasmPlugin/default/p generation 2"]);
    folder.write("p.wasm", "one");
    assert_eq!(folder.read().0, Vec::<String>::new(), "the same content is the same module");
    folder.write("p.wasm", "two");
    assert_eq!(folder.read().0, ["p.wasm there", "WasmPlugin/default/p generation 3"]);

    let reading = {
        folder.write("r.yaml", &plugin.replace("{name: p}", "{name: p, labels: {a: b}}"));
        folder.source.read()
    };
    let [Change::Upsert(penstock_translate::resources::Object::WasmPlugin(plugin))] = &*reading.changes else {
        panic!("{:?}", reading.changes)
    };
    let path = plugin.spec.source.file.as_ref().unwrap().path.clone();
    assert_eq!(PathBuf::from(path), folder.folder.path().join("p.wasm"), "the path is absolute");
}

#[test]
fn a_problem_knows_its_resource_where_it_can_be_told() {
    let mut folder = Folder::new();
    folder.write("r.yaml", &SERVICE.replace("port:", "prot:"));
    let reading = folder.source.read();
    let resource = ResourceRef::new(Kind::Service, "default", "web");
    assert!(reading.problems.iter().all(|problem| problem.resource.as_ref() == Some(&resource)));
}

#[test]
fn places_follow_documents_that_move() {
    let mut folder = Folder::new();
    let broken = SERVICE.replace("port: 80", "prot: 80").replace("web", "broken");
    folder.write("r.yaml", &format!("{SERVICE}---\n{broken}"));
    let place = |(_, problems): (Vec<String>, Vec<String>)| problems[0].split(": ").next().unwrap().to_owned();
    assert_eq!(place(folder.read()), "r.yaml:13:7");
    folder.write("r.yaml", &format!("# One line more.\n{SERVICE}---\n{broken}"));
    assert_eq!(place(folder.read()), "r.yaml:14:7");
    let web = ResourceRef::new(Kind::Service, "default", "web");
    assert_eq!(folder.source.place(&web).unwrap().1, 2);
}
