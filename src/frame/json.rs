//! Stub until part FRAME is merged.

use super::view::View;
use super::{Content, Names, Stamp};

pub fn snapshot_json(view: &View, content: &Content, stamp: &Stamp, names: &dyn Names) -> Vec<u8> {
    format!("{view:?} {content:?} {stamp:?} {}", names.host(0)).into_bytes()
}
