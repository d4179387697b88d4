//! The secret that nodes know each other by.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::limits::{CLUSTER_KEY_BYTES_MAX, CLUSTER_KEY_BYTES_MIN};

/// What messages are authenticated with. Its `Debug` has nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    bytes: Vec<u8>,
    /// False: made of the prefix, which anybody knows.
    pub is_secret: bool,
}

/// Why a file holds no key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error(
        "holds {0} bytes, and {CLUSTER_KEY_BYTES_MIN} are the least: `head -c 32 /dev/urandom` \
         makes a good one"
    )]
    Short(usize),
    #[error("holds more than {CLUSTER_KEY_BYTES_MAX} bytes")]
    Long,
}

impl Key {
    /// All of the file but space and line ends behind it, which editors leave there. In a key of
    /// random bytes that end so, every node leaves out the same.
    pub fn read(path: &Path) -> Result<Key, KeyError> {
        let mut bytes = Vec::new();
        let most = CLUSTER_KEY_BYTES_MAX as u64 + 1;
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        if CLUSTER_KEY_BYTES_MAX < bytes.len() {
            return Err(KeyError::Long);
        }
        let ends_blank = bytes.len() != CLUSTER_KEY_BYTES_MIN;
        while ends_blank && bytes.last().is_some_and(u8::is_ascii_whitespace) {
            bytes.pop();
        }
        if bytes.len() < CLUSTER_KEY_BYTES_MIN {
            return Err(KeyError::Short(bytes.len()));
        }
        let is_secret = true;
        Ok(Key { bytes, is_secret })
    }

    /// Keeps walls of different prefixes apart, and nobody out.
    pub fn of_prefix(prefix: &str) -> Key {
        let text = format!("tidewall, no secret: {prefix}");
        Key {
            bytes: digest(&SHA256, text.as_bytes()).as_ref().to_vec(),
            is_secret: false,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(content: &[u8]) -> Result<Key, KeyError> {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("tidewall-key-{process}-{number}"));
        std::fs::write(&path, content).unwrap();
        let key = Key::read(&path);
        std::fs::remove_file(&path).unwrap();
        key
    }

    #[test]
    fn a_file_holds_32_bytes_or_more() {
        let least = [b'k'; CLUSTER_KEY_BYTES_MIN];
        let key = read(&least).unwrap();
        assert!(key.is_secret && key.bytes() == least);
        assert!(!format!("{key:?}").contains("107"), "{key:?}");
        let error = read(&least[1..]).unwrap_err();
        assert!(matches!(error, KeyError::Short(31)), "{error}");
        assert!(read(&[b'k'; CLUSTER_KEY_BYTES_MAX]).is_ok());
        let error = read(&[b'k'; CLUSTER_KEY_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(error, KeyError::Long), "{error}");
        assert!(matches!(
            Key::read(Path::new("/nowhere")),
            Err(KeyError::Read(_))
        ));
    }

    #[test]
    fn a_line_end_is_no_part_of_it() {
        let line = [&[b'k'; 40][..], b"\r\n"].concat();
        assert_eq!(read(&line).unwrap().bytes(), [b'k'; 40]);
        let short = [&[b'k'; 31][..], b" \n"].concat();
        assert!(matches!(read(&short), Err(KeyError::Short(31))));
        // As many random bytes as the text says may end so, and are taken as they are.
        let random = [&[0; 31][..], b"\n"].concat();
        assert_eq!(read(&random).unwrap().bytes(), random);
    }

    #[test]
    fn without_a_secret_prefixes_are_told_apart() {
        let key = Key::of_prefix("a");
        assert!(!key.is_secret && key == Key::of_prefix("a") && key != Key::of_prefix("b"));
        assert_eq!(key.bytes().len(), CLUSTER_KEY_BYTES_MIN);
    }
}
