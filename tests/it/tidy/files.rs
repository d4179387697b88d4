//! The text files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository, by its path from the root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension();
        extensions
            .iter()
            .any(|known| extension.is_some_and(|e| e == *known))
    }

    pub(crate) fn is_source(&self) -> bool {
        self.has_extension(&["rs", "ts", "tsx", "css", "html", "mjs", "sh"])
    }

    pub(crate) fn is_script(&self) -> bool {
        self.has_extension(&["ts", "tsx", "mjs"])
    }
}

/// Every text file that git would track.
pub(crate) fn files() -> Vec<File> {
    let ignored = fs::read_to_string(".gitignore").unwrap();
    let mut folders = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let listed = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        };
        for entry in fs::read_dir(listed).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let text = path.to_str().unwrap().to_owned();
            if is_ignored(&text, &ignored) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(content) = fs::read_to_string(&path) {
                files.push(File {
                    path: text,
                    text: content,
                });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "run from the repository's root"
    );
    files
}

/// The few forms our `.gitignore` uses: `name/`, `path/name/`, `/name/`, `*.extension`.
fn is_ignored(path: &str, ignored: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut lines = ignored
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    name == ".git"
        || lines.any(|line| {
            let bare = line.trim_matches('/');
            match bare.strip_prefix('*') {
                Some(suffix) => name.ends_with(suffix),
                None if bare.contains('/') || line.starts_with('/') => path == bare,
                None => name == bare,
            }
        })
}
#[test]
fn ignored_files_are_told_by_their_line() {
    let ignored = "target/\ndashboard/dist/\n*.log\n/data/\n# a\n\n";
    for (path, expected) in [
        ("target", true),
        ("fuzz/target", true),
        ("dashboard/dist", true),
        ("dist", false),
        ("a/b.log", true),
        ("data", true),
        ("src/data", false),
        (".git", true),
        (".gitignore", false),
    ] {
        assert_eq!(is_ignored(path, ignored), expected, "{path}");
    }
}
