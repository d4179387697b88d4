//! Which metric names one object has had: a name that comes twice is refused.

use super::Text;
use super::string::Str;

/// The names of the present object.
///
/// Up to [`SEARCHED_MAX`] names are compared as they come, of which a filter of 64 bits spares
/// most; more are sorted once, at the end. So a hostile object costs n log n comparisons at most,
/// whatever its hashes are.
#[derive(Debug, Default)]
pub(super) struct Keys {
    seen: u64,
    list: Vec<Key>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) text: Text,
    pub(super) at: u32,
    hash: u32,
}

const SEARCHED_MAX: usize = 32;

impl Keys {
    pub(super) fn clear(&mut self) {
        self.seen = 0;
        self.list.clear();
    }

    pub(super) fn first(&self) -> Option<Key> {
        self.list.first().copied()
    }

    /// Whether the name is new, as far as looked; [`Keys::repeated`] tells the rest.
    #[inline(always)]
    pub(super) fn insert(&mut self, name: Str, body: &[u8], arena: &str) -> bool {
        let key = Key {
            text: name.text,
            at: name.at,
            hash: name.hash(),
        };
        let bit = 1 << (key.hash & 63);
        if self.seen & bit != 0 && self.has(key, body, arena) {
            return false;
        }
        self.seen |= bit;
        self.list.push(key);
        true
    }

    #[inline(never)]
    fn has(&self, key: Key, body: &[u8], arena: &str) -> bool {
        let text = |key: &Key| key.text.bytes(body, arena);
        let same = |other: &Key| other.hash == key.hash && text(other) == text(&key);
        self.list.len() <= SEARCHED_MAX && self.list.iter().any(same)
    }

    /// A name that came twice, if any; forgets the order of the names.
    #[inline]
    pub(super) fn repeated(&mut self, body: &[u8], arena: &str) -> Option<Key> {
        if self.list.len() <= SEARCHED_MAX {
            return None;
        }
        let text = |key: &Key| key.text.bytes(body, arena);
        self.list.sort_unstable_by(|a, b| {
            let names = || text(a).cmp(text(b));
            a.hash.cmp(&b.hash).then_with(names).then(a.at.cmp(&b.at))
        });
        let same = |pair: &&[Key]| pair[0].hash == pair[1].hash && text(&pair[0]) == text(&pair[1]);
        self.list.windows(2).find(same).map(|pair| pair[1])
    }
}
