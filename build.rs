//! Builds the dashboard with npm before the crate embeds `dashboard/dist`; nothing when headless.
//!
//! Runs npm only when a source is newer than what was built, so that `cargo` stays fast, and says
//! nothing unless it fails.

// A build script talks to cargo by stdout and to people by stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

/// What the build reads, below `dashboard/`. A directory stands for all that is in it.
const SOURCES: [&str; 8] = [
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    ".npmrc",
];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_DASHBOARD").is_none() {
        return ExitCode::SUCCESS;
    }
    let dashboard = Path::new("dashboard");
    for source in SOURCES {
        println!("cargo:rerun-if-changed=dashboard/{source}");
    }
    // Gone: someone cleaned up. Cargo takes a path that does not exist as changed.
    println!("cargo:rerun-if-changed=dashboard/dist/index.html");
    match build(dashboard) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn build(dashboard: &Path) -> Result<(), String> {
    let sources = SOURCES.map(|source| newest(&dashboard.join(source)));
    let built = modified(&dashboard.join("dist/index.html"));
    if built.is_some() && built >= sources.into_iter().max().flatten() {
        return Ok(());
    }
    let lock = modified(&dashboard.join("package-lock.json"));
    // npm writes this file last, so an install that was cut off counts as none.
    let installed = modified(&dashboard.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < lock {
        npm(dashboard, &["ci", "--loglevel=error"])?;
    }
    npm(dashboard, &["run", "build"])
}

/// One line when npm is missing, npm's own words when it fails.
fn npm(dashboard: &Path, arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("npm")
        .args(arguments)
        .current_dir(dashboard)
        .output();
    let output = run.map_err(|error| {
        format!(
            "the dashboard needs Node.js 18 or newer and npm ({error}): \
             apt-get install npm, or build with --no-default-features --features mimalloc"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("npm {} failed:\n{said}", arguments.join(" ")))
}

/// The latest change at or below a path. Tests are not part of what is built.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.to_string_lossy().ends_with(".test.ts") {
        return None;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let below = below.filter_map(|entry| newest(&entry.path()));
    below.chain(modified(path)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}
