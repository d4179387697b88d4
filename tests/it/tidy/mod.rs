//! What a tool can check about the tree itself, a tool checks: sizes, leftovers, links, imports.

mod documents;
mod files;
mod imports;
mod source;

use files::files;
use imports::modules;
use source::{code_only, line_of, long_functions, words};

/// Two columns of code side by side on a laptop.
const LINE_CHARS_MAX: usize = 100;
/// What fits a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// Past the first a file is worth a look, past the second it is split.
const FILE_LINES_GOOD: usize = 400;
const FILE_LINES_MAX: usize = 600;

// Taken apart, so that this file does not find itself.
const MARKS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
const RUST_MARKS: [&str; 4] = [
    concat!("db", "g!"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    "#[ignore",
];
const SCRIPT_MARKS: [&str; 5] = [
    "console.log(",
    "debugger;",
    concat!(".on", "ly("),
    concat!(".sk", "ip("),
    "@ts-ignore",
];
/// Fails with one finding a line.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn lines_functions_and_files_are_short() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is_source()) {
        let path = &file.path;
        for (at, line) in file.text.lines().enumerate() {
            let chars = line.chars().count();
            if LINE_CHARS_MAX < chars {
                findings.push(format!("{path}:{}: {chars} characters", at + 1));
            }
        }
        let lines = file.text.lines().count();
        if FILE_LINES_MAX < lines {
            findings.push(format!("{path}: {lines} lines: split it"));
        } else if FILE_LINES_GOOD < lines {
            eprintln!("{path}: {lines} lines: is it still one thing?");
        }
    }
    for (path, module) in modules().iter().filter(|(_, module)| !module.test_only) {
        for (name, line, lines) in long_functions(&module.code, FUNCTION_LINES_MAX) {
            findings.push(format!("{path}:{line}: fn {name} has {lines} lines"));
        }
    }
    assert_none(&findings);
}

#[test]
fn no_debug_marks_are_left() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is_source()) {
        let mut search = |text: &str, marks: &[&str]| {
            for mark in marks {
                for at in words(text, mark) {
                    findings.push(format!("{}:{}: {mark}", file.path, line_of(text, at)));
                }
            }
        };
        search(&file.text, &MARKS);
        if file.has_extension(&["rs"]) {
            search(&code_only(&file.text), &RUST_MARKS);
        }
        if file.is_script() {
            for mark in SCRIPT_MARKS {
                for (at, _) in file.text.match_indices(mark) {
                    let line = line_of(&file.text, at);
                    findings.push(format!("{}:{line}: {mark}", file.path));
                }
            }
        }
    }
    assert_none(&findings);
}
