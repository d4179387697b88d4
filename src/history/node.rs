//! The number by which stores that many nodes share know this one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use super::sqlite::StoreError;

/// In the history directory, so that it goes where the rows go.
const FILE: &str = "node";

/// Reads it, or makes it: 63 random bits, of which a thousand nodes share one with a chance of one
/// in 10^13. Written down once and for all: under another number, rows would be there twice.
pub fn load(dir: &Path) -> Result<i64, StoreError> {
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(node) if 0 < node => Ok(node),
            _ => {
                let what = "is not a node's number".to_owned();
                Err(StoreError::Damaged { path, what })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(dir).map_err(|source| StoreError::Io { path, source })
        }
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

fn make(dir: &Path) -> io::Result<i64> {
    let mut bytes = [0; 8];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let node = (i64::from_le_bytes(bytes) & i64::MAX).max(1);
    // Whole or not at all, whatever ends us in between.
    let part = dir.join("node.part");
    let mut file = File::create(&part)?;
    writeln!(file, "{node}")?;
    file.sync_all()?;
    fs::rename(&part, dir.join(FILE))?;
    File::open(dir)?.sync_all()?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_made_once_and_never_guessed() {
        let dir = std::env::temp_dir().join(format!("tidewall-node-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let node = load(&dir).unwrap();
        assert!(0 < node);
        assert_eq!(load(&dir).unwrap(), node);
        for damage in ["", "seven", "-7", "0"] {
            fs::write(dir.join(FILE), damage).unwrap();
            assert!(load(&dir).is_err(), "{damage:?}");
        }
        fs::remove_file(dir.join(FILE)).unwrap();
        assert_ne!(load(&dir).unwrap(), node);
        fs::remove_dir_all(&dir).unwrap();
    }
}
