//! Builds the dashboard into `dashboard/dist`, from where `src/endpoint/dashboard.rs` embeds it.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const HOW: &str = "`make build` installs what is missing; `cargo build --no-default-features` \
                   builds a server without its dashboard";

fn main() {
    for path in [
        "build.rs",
        "dashboard/index.html",
        "dashboard/login.html",
        "dashboard/package-lock.json",
        "dashboard/package.json",
        "dashboard/src",
        "dashboard/tsconfig.json",
        "dashboard/vite.config.ts",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    if env::var_os("CARGO_FEATURE_DASHBOARD").is_none() {
        return;
    }
    if !is_installed() {
        npm(&["ci"]);
    }
    npm(&["run", "build"]);
}

/// Whether npm has installed what the lock file says; it notes when it did.
fn is_installed() -> bool {
    let modified = |path| fs::metadata(Path::new("dashboard").join(path))?.modified();
    match (
        modified("node_modules/.package-lock.json"),
        modified("package-lock.json"),
    ) {
        (Ok(installed), Ok(wanted)) => wanted <= installed,
        _ => false,
    }
}

fn npm(args: &[&str]) {
    let what = args.join(" ");
    let output = Command::new("npm")
        .args(args)
        .current_dir("dashboard")
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            panic!("npm {what} failed in dashboard/:\n{text}\n{HOW}");
        }
        Err(error) => panic!("npm cannot be started: {error}. {HOW}"),
    }
}
