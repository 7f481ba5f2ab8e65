//! The rings of the house: which module may use which. Reads the `use` lines (and the paths) of every source file, and
//! fails on one against the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of this crate that a module may name. `*` is all.
const MODULES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("outside", &["model"]),
    ("wire", &["model"]),
    ("metrics", &["model"]),
    ("config", &["model", "metrics", "tls"]),
    ("tls", &["model"]),
    ("store", &["model", "metrics", "config"]),
    ("push", &["model", "metrics", "config", "tls", "store"]),
    ("auth", &["model", "metrics", "config", "tls"]),
    ("view", &["outside", "model", "wire", "metrics", "config"]),
    ("edge", &["outside", "model", "wire", "auth", "view", "metrics", "config", "node", "home"]),
    ("link", &["model", "wire", "auth", "view", "metrics", "config", "tls"]),
    ("node", &["outside", "model", "wire", "view", "store", "push", "metrics", "config", "edge", "link", "home"]),
    ("home", &["outside", "model", "wire", "view", "store", "push", "metrics", "config", "edge", "node"]),
    ("process", &[]),
    ("watch", &["model", "view", "home", "node", "push", "store", "metrics", "process"]),
    (
        "http",
        &[
            "model", "wire", "view", "auth", "edge", "link", "home", "node", "metrics", "config", "push", "store",
            "watch",
        ],
    ),
    ("app", &["*"]),
    ("cli", &["*"]),
    ("bench", &["*"]),
    ("client", &["model", "auth", "config"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// Crates the pure ring may name.
const MODEL_CRATES: &[&str] =
    &["std", "core", "serde", "serde_json", "bytes", "petgraph", "hmac", "sha2", "thiserror", "crate", "super", "self"];

/// What would let time, chance or the world into the pure ring although `std` is allowed.
const MODEL_BANNED: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::env",
    "std::process",
    "RandomState",
    "log::",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments and without its test module, which may use anything, also in a file of its own.
fn code(path: &Path) -> String {
    if path.file_stem().is_some_and(|stem| stem == "tests") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module_of(path: &Path, src: &Path) -> String {
    let relative = path.strip_prefix(src).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let names: Vec<String> = match part.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::to_owned).collect(),
            None => vec![part.to_owned()],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn imports_follow_the_rings() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 10, "the sources were not found");
    let mut against = Vec::new();
    for file in &files {
        let module = module_of(file, &src);
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
            against.push(format!("{}: the module {module} is not in the table", file.display()));
            continue;
        };
        for used in crate_paths(&code(file)) {
            let known = MODULES.iter().any(|(name, _)| *name == used);
            if known && used != module && !allowed.contains(&"*") && !allowed.contains(&used.as_str()) {
                against.push(format!("{}: {module} must not use {used}", file.display()));
            }
        }
    }
    assert!(against.is_empty(), "{}", against.join("\n"));
}

#[test]
fn the_model_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src.join("model"), &mut files);
    let mut against = Vec::new();
    for file in &files {
        let code = code(file);
        for line in code.lines().map(str::trim) {
            if let Some(used) = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")) {
                let root: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !MODEL_CRATES.contains(&root.as_str()) {
                    against.push(format!("{}: {line}", file.display()));
                }
            }
        }
        for banned in MODEL_BANNED {
            if code.contains(banned) {
                against.push(format!("{}: names {banned}", file.display()));
            }
        }
    }
    assert!(against.is_empty(), "{}", against.join("\n"));
}
