#![allow(clippy::unwrap_used)]
use super::*;

/// Takes everything.
struct Wide;

impl Sink for Wide {
    fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

fn viewer() -> Viewer {
    let (sink, counters) = (Rc::new(Wide), Arc::default());
    let viewer = Viewer::new(sink, Views::new(), counters, Dialect::Binary, 0);
    viewer.subscribe(1, View::default_view()).unwrap();
    viewer
}

/// A tick with a frame of the view; a KEY when it has no base.
fn deliver(viewer: &Viewer, seq: u32, base_seq: u32, now_ms: u64) -> Delivered {
    let bytes = Some(Bytes::from_static(b"frame"));
    let (key, delta) = if base_seq == 0 {
        (bytes, None)
    } else {
        (None, bytes)
    };
    let frame = Frame {
        view: 1,
        seq,
        base_seq,
        key,
        delta,
    };
    let tick = Tick {
        frames: vec![frame],
        ..Tick::default()
    };
    viewer.deliver(&tick, &HashMap::from([(1, 0)]), now_ms)
}

/// A core that came late, and a resync, took rates away from viewers that kept up.
#[test]
fn only_a_viewer_s_own_lateness_lowers_its_rate() {
    let viewer = viewer();
    viewer.subscribe(2, View::default_view().lowered()).unwrap();
    let lowered = |seq, base_seq| deliver(&viewer, seq, base_seq, 0).lowered;
    for seq in [1, 6, 11] {
        assert!(!lowered(seq, 0));
        assert!(!lowered(seq + 3, seq + 2), "frames in between were missed");
        assert!(!lowered(seq + 4, 0));
        viewer.acknowledge(1, seq + 4, 0).unwrap();
    }
    let mut lowered = (20..60).map(|seq| {
        if seq == 40 {
            viewer.acknowledge(1, seq, 0).unwrap();
        }
        lowered(seq, 0)
    });
    assert!(
        lowered.any(|lowered| lowered),
        "it left frames unacknowledged twice"
    );
    // Only the view that changed is told of: the peer would begin its other pictures anew.
    let told = viewer.take_lowered().into_iter().map(|(feed, _)| feed.id);
    assert_eq!(told.collect::<Vec<_>>(), [1]);
    assert!(viewer.take_lowered().is_empty());
}

/// A tab was hidden before it painted its last frame, and shown again minutes later: it was
/// closed as slow before it could acknowledge anything.
#[test]
fn a_pause_is_no_debt() {
    let (viewer, limit) = (viewer(), ACK_TIMEOUT.as_millis() as u64);
    deliver(&viewer, 1, 0, 0);
    viewer.pause(true, 100);
    assert_eq!(viewer.overdue(9 * limit), None);
    viewer.pause(false, 9 * limit);
    assert_eq!(viewer.overdue(9 * limit + 100), None);
    deliver(&viewer, 2, 0, 9 * limit + 100);
    assert_eq!(viewer.overdue(10 * limit), None);
    assert_eq!(viewer.overdue(10 * limit + 1), Some(Reason::SlowViewer));
    viewer.acknowledge(1, 2, 10 * limit + 1).unwrap();
    assert_eq!(viewer.overdue(99 * limit), None);
}
