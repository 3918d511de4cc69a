//! The floors of the crate: a module uses only floors below its own, and the lower ones have no effects.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Module prefixes and their floors, the longest match counts.
const FLOORS: [(&str, u8); 11] = [
    ("pg", 0),
    ("topology", 1),
    ("observed", 1),
    ("plan", 2),
    ("world", 3),
    ("event", 4),
    ("report", 4),
    ("apply", 4),
    ("cli", 5),
    ("error", 5),
    ("main", 5),
];

/// What only `world` and above may touch.
const EFFECTS: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "rustix",
    "async ",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns every source file with its first module and its text without the tests at its end, which may also be files
/// of their own.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let is_test = |path: &PathBuf| path.with_extension("").components().any(|part| part.as_os_str() == "tests");
    let is_tried = |path: &PathBuf| !path.ends_with("lib.rs") && !is_test(path);
    let modules = paths.into_iter().filter(is_tried).map(|path| {
        let relative = path.strip_prefix(&root).expect("below the root").with_extension("");
        let module = relative.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        (path, module, code)
    });
    modules.collect()
}

fn floor(module: &str) -> u8 {
    FLOORS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("no floor is given for `{module}`")).1
}

#[test]
fn a_module_uses_only_floors_below_its_own() {
    for (path, module, code) in modules() {
        for (index, line) in code.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let used = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
                let is_comment = line.trim_start().starts_with("//");
                assert!(
                    is_comment || floor(used) <= floor(&module),
                    "{}:{}: `{module}` is below `{used}`",
                    path.display(),
                    index + 1
                );
                // Reports render what they are given; they look at nothing.
                assert!(module != "report" || used != "world", "{}:{}: a report looks", path.display(), index + 1);
            }
        }
    }
}

#[test]
fn the_lower_floors_and_the_reports_have_no_effects() {
    for (path, module, code) in modules() {
        if floor(&module) > 2 && module != "report" && module != "event" {
            continue;
        }
        for (index, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let effect = EFFECTS.iter().find(|effect| line.contains(*effect));
            assert_eq!(effect, None, "{}:{}: {line}", path.display(), index + 1);
        }
    }
}
