//! Who knows whom: imports point one way, every file is reached, `unsafe` has one home.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::assert_none;
use super::files::files;
use super::source::{child_modules, code_only, crate_imports, line_of, without_tests, words};

/// The one file of the program that may say `unsafe`, and a test that must: it is an allocator.
const UNSAFE_FILES: [&str; 2] = ["src/ring.rs", "tests/alloc.rs"];

/// Each top module of `src/` and the modules it may name, itself apart; each names only modules
/// above its line. The protocols stay free of sockets, clocks and state by this table.
const IMPORTS: &[(&str, &str)] = &[
    ("limits", ""),
    ("clock", ""),
    ("duration", ""),
    ("calendar", ""),
    ("percent", ""),
    ("rng", ""),
    ("backoff", "limits rng"),
    ("rhythm", "limits"),
    ("sample", ""),
    // `shim` is what stands in for the standard library under loom.
    ("ring", "sample shim"),
    ("reject", "limits"),
    ("decode", "limits"),
    ("catalog", "sample limits"),
    ("frame", "percent sample limits"),
    ("stats", "frame limits sample"),
    ("observe", "reject limits clock"),
    // Below the aggregator, which feeds it through a ring.
    (
        "history",
        "backoff calendar catalog clock frame limits observe rhythm ring rng sample stats",
    ),
    // Below the aggregator too: a peer's samples come by a ring, as one more core's.
    (
        "cluster",
        "backoff catalog clock frame limits observe percent ring rng sample",
    ),
    ("connection", "reject limits"),
    ("auth", "calendar connection percent reject limits"),
    ("route", "auth connection reject limits"),
    ("broadcast", "frame observe reject limits clock"),
    (
        "aggregator",
        "broadcast catalog clock cluster frame history limits observe rhythm ring sample stats",
    ),
    (
        "endpoint",
        "aggregator auth broadcast catalog clock cluster connection decode frame history limits \
         observe percent reject ring route sample",
    ),
    // The sending side knows the wire, not the server.
    ("agent", "backoff clock duration frame limits rng"),
    ("cli", "agent auth duration"),
    ("config", "auth cli cluster history limits"),
    ("server", ANY),
    ("run", ANY),
];
const ANY: &str = "*";

#[test]
fn unsafe_stands_in_the_ring_only() {
    let mut findings = Vec::new();
    for file in files() {
        if !file.is_in(&["src/", "tests/", "benches/"]) || !file.has_extension(&["rs"]) {
            continue;
        }
        let code = code_only(&file.text);
        let is_home = UNSAFE_FILES.contains(&file.path.as_str());
        for at in words(&code, "unsafe").filter(|_| !is_home) {
            findings.push(format!("{}:{}: unsafe", file.path, line_of(&code, at)));
        }
    }
    assert_none(&findings);
}

pub(crate) struct Module {
    pub(crate) code: String,
    pub(crate) test_only: bool,
}

/// The files of `src/` that a `mod` line leads to, tests inside them cut out.
pub(crate) fn modules() -> BTreeMap<String, Module> {
    let mut found = BTreeMap::new();
    let mut open = vec![
        ("src/lib.rs".to_owned(), false),
        ("src/main.rs".to_owned(), false),
    ];
    while let Some((path, test_only)) = open.pop() {
        let code = code_only(&fs::read_to_string(&path).unwrap());
        let folder = match path
            .strip_suffix("/mod.rs")
            .or(path.strip_suffix("/lib.rs"))
        {
            Some(folder) => folder,
            None => path
                .strip_suffix("/main.rs")
                .unwrap_or(path.trim_end_matches(".rs")),
        };
        for (name, tests) in child_modules(&code) {
            let flat = format!("{folder}/{name}.rs");
            let nested = format!("{folder}/{name}/mod.rs");
            let child = if Path::new(&flat).exists() {
                flat
            } else {
                nested
            };
            assert!(
                Path::new(&child).exists(),
                "{path}: mod {name}; has no file"
            );
            open.push((child, test_only || tests));
        }
        let code = without_tests(&code);
        found.insert(path, Module { code, test_only });
    }
    found
}

#[test]
fn every_source_file_is_reachable() {
    let reachable = modules();
    let mut sources = files();
    sources.retain(|file| file.is_in(&["src/"]) && file.has_extension(&["rs"]));
    let lost = sources
        .iter()
        .filter(|file| !reachable.contains_key(&file.path));
    let findings = lost.map(|file| format!("{}: no mod line leads here", file.path));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn imports_point_one_way() {
    let mut findings = Vec::new();
    for (path, module) in modules().iter().filter(|(_, module)| !module.test_only) {
        let top = path["src/".len()..]
            .split(['/', '.'])
            .next()
            .unwrap_or_default();
        if top == "lib" || top == "main" {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == top) else {
            findings.push(format!("{path}: say in IMPORTS what `{top}` may import"));
            continue;
        };
        for (name, line) in crate_imports(&module.code) {
            let known = *allowed == ANY || allowed.split_whitespace().any(|known| known == name);
            if name != top && !known {
                findings.push(format!("{path}:{line}: `{top}` must not know `{name}`"));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn the_table_of_imports_has_no_circle() {
    // Each module names only modules that stand before it, so there is an order of layers.
    for (at, (name, allowed)) in IMPORTS.iter().enumerate() {
        for import in allowed
            .split_whitespace()
            .filter(|import| !["*", "shim"].contains(import))
        {
            let below = IMPORTS[..at].iter().any(|(known, _)| *known == import);
            assert!(
                below,
                "{name} may import {import}, which stands above it or nowhere"
            );
        }
    }
}
