//! Documents tell the truth: links and paths are alive, and no machine of ours is named.

use std::path::{Component, Path, PathBuf};

use super::assert_none;
use super::files::files;
use super::source::line_of;

// Taken apart, so that this file does not find itself.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/fa", "rm/"),
    concat!("/tm", "p/"),
];
#[test]
fn links_and_paths_in_documents_are_alive() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.has_extension(&["md"])) {
        let folder = Path::new(&file.path).parent().unwrap();
        for link in links(&file.text) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !link.contains(':') && !normal(&folder.join(target)).exists() {
                findings.push(format!("{}: dead link {link}", file.path));
            }
        }
        for named in quoted_paths(&file.text) {
            if !Path::new(named).exists() {
                findings.push(format!("{}: no such file {named}", file.path));
            }
        }
    }
    assert_none(&findings);
}

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains(' '))
}

/// Paths of ours that stand in backticks: they name a file, no pattern of files.
fn quoted_paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|path| {
        let ours = [
            "src/",
            "tests/",
            "docs/",
            "scripts/",
            "benches/",
            "dashboard/",
            "fuzz/",
        ];
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        ours.iter().any(|folder| path.starts_with(folder)) && path.chars().all(plain)
    })
}

/// `a/../b` as `b`, without asking the disk.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    if normal.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        normal
    }
}

#[test]
fn no_machine_is_named() {
    let mut findings = Vec::new();
    for file in files() {
        for path in MACHINE_PATHS {
            let may = path == concat!("/tm", "p/") && file.path.contains("tests/");
            for (at, _) in file.text.match_indices(path).filter(|_| !may) {
                findings.push(format!("{}:{}: {path}", file.path, line_of(&file.text, at)));
            }
        }
        let names_registry = match file.path.rsplit('/').next().unwrap_or_default() {
            "package-lock.json" => file.text.contains("\"resolved\""),
            ".npmrc" => file
                .text
                .lines()
                .any(|line| line.trim_start().starts_with("registry")),
            "config.toml" => file.text.contains("[source") || file.text.contains("[registr"),
            _ => false,
        };
        if names_registry {
            findings.push(format!("{}: names a package registry", file.path));
        }
    }
    assert_none(&findings);
}
