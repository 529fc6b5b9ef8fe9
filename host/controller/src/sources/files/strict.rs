//! Files that hold no resources, read as strictly as those that do.

use std::{path::Path, sync::Arc};

use serde_json::Value;

use super::{
    problem::{InvalidDocument, Problem},
    schema, yaml,
};

/// Read one YAML or JSON document and hold it against a JSON Schema without `$ref`s, as `schemars` makes them.
///
/// # Errors
/// Everything that is wrong with it, each with its place and the nearest valid name.
pub fn read_document(file: &Path, text: &str, schema: &Value) -> Result<Value, Vec<Problem>> {
    let file = Arc::new(file.to_owned());
    let problem = |position, field, kind| Problem { file: Arc::clone(&file), position, resource: None, field, kind };
    let pieces = yaml::split(text);
    let [piece] = pieces.as_slice() else {
        let found = pieces.len();
        let message = format!("one document is expected, and there are {found}");
        return Err(vec![problem(None, String::new(), InvalidDocument::InvalidValue(message))]);
    };
    match yaml::parse(piece) {
        Err((position, kind)) => Err(vec![problem(Some(position), String::new(), kind)]),
        Ok(None) => {
            let kind = InvalidDocument::InvalidValue("it holds nothing".to_owned());
            Err(vec![problem(None, String::new(), kind)])
        }
        Ok(Some(root)) => {
            let (value, faults) = schema::check(&root, piece.first_line, schema);
            let problems: Vec<_> =
                faults.into_iter().map(|fault| problem(Some(fault.position), fault.field, fault.kind)).collect();
            if problems.is_empty() { Ok(value) } else { Err(problems) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        let schema = json!({
            "type": "object", "required": ["name"],
            "properties": { "name": { "type": "string" }, "any": true },
        });
        read_document(Path::new("a.yaml"), text, &schema).map_err(|problems| {
            let show = |problem: &Problem| {
                let place =
                    problem.position.map_or_else(String::new, |place| format!("{}:{}: ", place.line, place.column));
                format!("{place}{}", problem.message())
            };
            problems.iter().map(show).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn problems_have_places_and_neighbours() {
        assert_eq!(read("# c\n---\nname: a\nany: {x: null}\n"), Ok(json!({ "name": "a", "any": { "x": null } })));
        let problems = read("naem: a\n").unwrap_err();
        assert!(problems.starts_with("1:1: unknown field `naem`; did you mean `name`?"), "{problems}");
        assert!(problems.contains("missing field `name`"), "{problems}");
        assert!(read("name: [").unwrap_err().contains("not valid YAML"));
        assert!(read("").unwrap_err().contains("0"));
        let deep = format!("name: a\nany:\n  {}b\n", "- ".repeat(100_000));
        assert_eq!(read(&deep).unwrap_err(), "3:513: lines begin within 512 columns; make it flatter");
        let deep: String = (0..100_000).map(|level| format!("{}a:\n", " ".repeat(level.min(600)))).collect();
        assert!(read(&deep).unwrap_err().contains("512 columns"));
        // As deep as it can be.
        let lists = format!("name: a\nany:\n  {}b\n", "- ".repeat(255));
        assert!(read(&lists).is_ok());
        let both: String = (1..250).map(|level| format!("{0}- a:\n", "  ".repeat(level))).collect();
        assert!(read(&format!("name: a\nany:\n{both}")).is_ok());
        assert!(read("name: a\n---\nname: b\n").unwrap_err().contains("there are 2"));
    }
}
