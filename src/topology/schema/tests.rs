//! That the schema takes what the reader takes, and knows what it knows.

use std::path::Path;

use jsonschema::Validator;

use super::*;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::topology;

fn validator(schema: &Value) -> Validator {
    jsonschema::validator_for(schema).expect("a schema")
}

fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a text")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

/// As an editor reads it; `None`: it can't be read at all.
fn read(yaml: &str) -> Option<Value> {
    serde_yaml::from_str(yaml).ok()
}

fn complaints(validator: &Validator, yaml: &Value) -> Vec<String> {
    validator.iter_errors(yaml).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_topology_that_is_valid_is_valid_by_the_schema() {
    let validator = validator(&schema(None));
    for folder in ["topologies", "fixtures/good", "fixtures/advice"] {
        for (name, text) in files(folder) {
            let yaml = read(&text).unwrap_or_else(|| panic!("{name} is no YAML to an editor"));
            assert_eq!(complaints(&validator, &yaml), [""; 0], "{name}");
        }
    }
}

#[test]
fn what_is_wrong_with_keys_words_and_parameters_is_wrong_by_the_schema() {
    let validator = validator(&schema(None));
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for (name, text) in files("fixtures/bad") {
        let Some(yaml) = read(&text) else { continue };
        let list = if complaints(&validator, &yaml).is_empty() { &mut unseen } else { &mut seen };
        list.push(Path::new(&name).file_stem().expect("a name").to_string_lossy().into_owned());
    }
    insta::assert_snapshot!(format!("seen\n  {}\nunseen\n  {}", seen.join("\n  "), unseen.join("\n  ")));
}

#[test]
fn the_parameters_of_a_major_are_those_that_validate_takes() {
    for major in Major::all() {
        let schema = schema(Some(major));
        let properties = schema["$defs"][format!("parameters_{major}")]["properties"].as_object().expect("parameters");
        let validator = validator(&schema);
        for guc in guc::all(major).filter(|guc| guc.context != Context::Internal) {
            let name = guc.name.to_ascii_lowercase();
            // A value that the schema refuses, validate refuses as well.
            for value in [guc.boot, Some("on"), Some("off"), Some("1"), Some("-1"), Some("0"), Some("64"), Some("true")]
            {
                let Some(value) = value else { continue };
                let yaml = format!(
                    "version: 1\ncluster: c\npostgresql: {{ version: {major} }}\nreplication: {{ user: r, auth: trust }}\n\
                     parameters: {{ {name}: {} }}\nnodes: {{ a: {{ role: primary, port: 1, data_dir: /a }} }}\n",
                    if value.parse::<f64>().is_ok() || value == "true" {
                        value.to_owned()
                    } else {
                        format!("'{}'", value.replace('\'', "''"))
                    }
                );
                let (Ok(_), Some(editor)) = (topology::parse(yaml.as_bytes(), "t.yaml", "/"), read(&yaml)) else {
                    continue;
                };
                assert_eq!(complaints(&validator, &editor), [""; 0], "{major}: {name}: {value}");
                assert!(properties.contains_key(&name), "{major}: {name}");
            }
        }
        for name in properties.keys() {
            assert!(guc::known(major, name).is_ok(), "{major}: {name}");
        }
    }
}

#[test]
fn a_schema_of_one_major_takes_no_other() {
    let fifteen = Major::new(15).expect("known");
    let validator = validator(&schema(Some(fifteen)));
    for (version, is_good) in [("15", true), ("'15'", true), ("14", false)] {
        let yaml = format!(
            "version: 1\ncluster: c\npostgresql: {{ version: {version} }}\nreplication: {{ user: r, auth: trust }}\n\
             nodes: {{ a: {{ role: primary, port: 1, data_dir: /a }} }}\n"
        );
        assert_eq!(validator.is_valid(&read(&yaml).expect("YAML")), is_good, "{version}");
    }
}

#[test]
fn every_key_and_every_parameter_is_described() {
    fn look(schema: &Value, place: &str, bare: &mut Vec<String>) {
        let Some(object) = schema.as_object() else { return };
        for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let place = format!("{place}.{name}");
            if property.get("description").is_none() {
                bare.push(place.clone());
            }
            look(property, &place, bare);
        }
        for below in ["items", "additionalProperties"] {
            object.get(below).into_iter().for_each(|schema| look(schema, place, bare));
        }
        object.get("anyOf").and_then(Value::as_array).into_iter().flatten().for_each(|one| look(one, place, bare));
    }
    let schema = schema(None);
    let mut bare = Vec::new();
    look(&schema, "", &mut bare);
    look(&schema["$defs"]["node"], "node", &mut bare);
    look(&schema["$defs"]["secret"], "secret", &mut bare);
    assert_eq!(bare, [""; 0]);
    let definitions = schema["$defs"].as_object().expect("definitions");
    let parameters: Vec<_> = definitions.iter().filter(|(name, _)| name.starts_with("parameter.")).collect();
    assert!(parameters.len() > 300, "{}", parameters.len());
    assert!(parameters.iter().all(|(_, schema)| schema["description"].as_str().is_some_and(|text| text.len() > 20)));
}

#[test]
fn the_schema_is_of_a_size_that_editors_bear() {
    let length = schema(None).to_string().len();
    assert!(length < 500_000, "{length}");
}
