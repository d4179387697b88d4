//! Sets `cfg(loom)` for this crate alone, and writes the twins: one copy of `ring.rs` for each
//! memory ordering in it, with that one weakened to `Relaxed`.

use std::fmt::Write as _;
use std::{env, fs, path::Path};

const RING: &str = "../src/ring.rs";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed={RING}");
    println!("cargo::rerun-if-changed=build.rs");

    let ring = fs::read_to_string(RING).expect("the ring's source");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let models = Path::new(&root).join("src/models.rs");
    let (mut modules, mut list) = (String::new(), String::new());
    for (number, (at, ordering)) in orderings(&ring).into_iter().enumerate() {
        let mut weak = ring.clone();
        weak.replace_range(at..at + ordering.len(), "Ordering::Relaxed");
        let path = Path::new(&out).join(format!("twin_{number}.rs"));
        fs::write(&path, weak).expect("the build directory is writable");
        let line = ring[..at].lines().count();
        let _ = writeln!(
            modules,
            "mod twin_{number} {{ #[path = {path:?}] mod ring;
             #[path = {models:?}] pub mod models; }}"
        );
        let _ = writeln!(
            list,
            "(\"ring.rs:{line} {ordering}\", twin_{number}::models::ALL),"
        );
    }
    let twins = format!("{modules}pub const TWINS: &[(&str, models::Models)] = &[{list}];");
    fs::write(Path::new(&out).join("twins.rs"), twins).expect("as above");
}

/// Where in `source` each ordering is used, by its position; uses in comments do not count.
fn orderings(source: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for ordering in ["Ordering::Release", "Ordering::Acquire"] {
        for (at, _) in source.match_indices(ordering) {
            let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
            if !source[line..at].contains("//") {
                found.push((at, ordering));
            }
        }
    }
    found.sort_unstable();
    found
}
