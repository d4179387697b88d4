//! Every bound of the program, with the sum behind it.
//!
//! A limit that is stated once can be tested once: at the bound and one past it. Relations between
//! limits are compile-time assertions at the end.

mod cluster;

use std::time::Duration;

pub use cluster::*;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

// ---- HTTP/1.1 -------------------------------------------------------------------------------

/// Request line and header fields together; past it 431.
pub const HEAD_BYTES_MAX: usize = 16 * KIB;
/// Header fields; past it 431. 64 x 32 B of parser slots is 2 KiB of stack.
pub const HEAD_FIELDS_MAX: usize = 64;
/// Request target; past it 414.
pub const TARGET_BYTES_MAX: usize = 4 * KIB;
/// Heads a core keeps to recognise: 64 x 16 KiB at worst, 64 x 200 B as agents are.
pub const HEADS_KNOWN_MAX: usize = 64;
/// Reads a head may take: a head of 16 KiB in 256 B pieces. Bounds rescans of a dribbled head.
pub const HEAD_READS_MAX: u32 = 64;
/// From a head's first byte to its last, absolute, not per read; past it 408.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From a body's first byte to its last; past it 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A body must bring this much a second once [`BODY_GRACE`] has passed; else 408.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = KIB as u64;
pub const BODY_GRACE: Duration = Duration::from_secs(5);
/// A keep-alive connection that has nothing to say is closed after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A peer that reads less than [`WRITE_BYTES_PER_STALL_MIN`] of its answers in this time is closed.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// 1 KiB a second, as for bodies: a byte now and then holds nothing for good.
pub const WRITE_BYTES_PER_STALL_MIN: u64 = 10 * KIB as u64;
/// Answers waiting for a peer that pipelines but does not read; past it reading stops.
pub const PIPELINE_OUT_BYTES_MAX: usize = 64 * KIB;
/// Bytes of unfinished requests one core holds: 32 of the largest bodies; past it 503.
pub const CARRY_BYTES_MAX: u64 = 256 * MIB as u64;
/// Bodies up to this size may pass [`CARRY_BYTES_MAX`] by as much again as a quarter of it: those
/// who fill it with large ones must not shut out agents.
pub const CARRY_SMALL_BODY_BYTES: usize = 64 * KIB;
pub const CARRY_SMALL_BYTES_MAX: u64 = CARRY_BYTES_MAX / 4;
/// An answer's body longer than this is shared, not copied, while it waits for its peer.
pub const COPIED_BODY_BYTES_MAX: usize = 64 * KIB;
/// After our last answer on a connection: how long and how much is read and forgotten.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
pub const LINGER_BYTES_MAX: usize = 256 * KIB;
/// Requests on one connection, then `Connection: close`: spreads long-lived peers over cores anew.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 1_000_000;
/// Chunk-size line without its CRLF: 1 to 8 hexadecimal digits, no extension.
pub const CHUNK_DIGITS_MAX: usize = 8;
/// After [`CHUNKS_FREE`] chunks, the average chunk must be this large; else 400.
pub const CHUNK_AVERAGE_MIN: usize = 16;
pub const CHUNKS_FREE: usize = 64;
/// Trailer section bytes and fields; past them 431. Trailers are checked and ignored.
pub const TRAILER_BYTES_MAX: usize = KIB;
pub const TRAILER_FIELDS_MAX: usize = 8;

// ---- HTTP/2 and TLS -------------------------------------------------------------------------

/// Streams a peer may have open; past it RST_STREAM REFUSED_STREAM. Agents multiplexed by a proxy
/// need tens; 100 x [`HTTP2_SEND_BUFFER_BYTES`] bounds what one connection makes us hold to send.
pub const HTTP2_STREAMS_MAX: u32 = 100;
/// A request's fields, each with the 32 bytes that RFC 9113 section 6.5.2 adds; past it 431. The
/// smallest field counts 33 bytes, so 100 streams x 496 fields is what a bomb of HPACK references
/// unfolds to: 50,000 entries of some 70 B, under 4 MB.
pub const HTTP2_HEADER_LIST_BYTES_MAX: u32 = HEAD_BYTES_MAX as u32;
/// HPACK's dynamic table, per connection.
pub const HTTP2_HEADER_TABLE_BYTES: u32 = 4 * KIB as u32;
/// What a peer may send on one stream, and on all, before we take it. The connection's bounds what
/// its unread streams hold.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * KIB as u32;
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = MIB as u32;
/// Frames of the default size: a larger one would let a peer make us buffer more before we look.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 16 * KIB as u32;
/// Bytes of answers h2 buffers for one stream whose peer does not take them.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 32 * KIB;
/// A DATA frame under 256 bytes costs the rest of them until it is taken; out of budget GOAWAY
/// ENHANCE_YOUR_CALM. One turn's [`HTTP2_TURN_BYTES`] in frames of one byte is 1,638 x 255 = 418
/// KB, and streams take theirs after every turn. h2 keeps the room that so many frames needed: 0.5
/// MB a connection.
pub const HTTP2_SMALL_DATA_BUDGET: usize = 512 * KIB;
/// Bytes read from one connection before its streams, and others, get their turn.
pub const HTTP2_TURN_BYTES: usize = 16 * KIB;
/// Streams that a peer resets before we saw them (h2's own count); past it GOAWAY.
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// Streams that we reset for a peer's faults; past it GOAWAY (CVE-2025-8671, MadeYouReset).
pub const HTTP2_LOCAL_RESETS_MAX: usize = 128;
/// Of the last [`HTTP2_RESET_WINDOW`] streams, those that the peer ended before our answer; more
/// than half of them is a flood (CVE-2023-44487, rapid reset).
pub const HTTP2_RESET_WINDOW: u32 = 400;
pub const HTTP2_RESETS_MAX: u32 = HTTP2_RESET_WINDOW / 2;
/// Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA) in a
/// window, besides two for each frame that carries something and one for each
/// [`HTTP2_WRITTEN_PER_CONTROL`] bytes we wrote; past it GOAWAY ENHANCE_YOUR_CALM.
pub const HTTP2_CONTROL_FREE: u64 = 1_000;
pub const HTTP2_CONTROL_WINDOW: Duration = Duration::from_secs(10);
pub const HTTP2_WRITTEN_PER_CONTROL: u64 = 256;
/// A longer answer counts in what the core holds ([`CARRY_BYTES_MAX`]) until its peer has taken it.
pub const HTTP2_SMALL_ANSWER_BYTES: usize = KIB;
/// Streams of a connection whose window stayed shut for [`WRITE_STALL_TIMEOUT`]; at this many the
/// connection ends.
pub const HTTP2_STALLS_MAX: u32 = 3;
/// Unsent bytes the kernel takes for an HTTP/2 connection: what waits there is old.
pub const HTTP2_UNSENT_BYTES: u32 = 32 * KIB as u32;
/// From connect to a finished TLS handshake.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Enciphered bytes that wait for a peer, beyond what its kernel buffer holds.
pub const TLS_OUT_BYTES_MAX: usize = 16 * KIB;

// ---- tokens ---------------------------------------------------------------------------------

/// Tokens in the file, and the file's own size: 1,024 tokens x 512 B.
pub const TOKENS_MAX: usize = 1_024;
pub const TOKENS_FILE_BYTES_MAX: usize = 512 * KIB;
/// A token's text: `tw_` and 64 digits are 67 bytes; others may bring their own.
pub const TOKEN_BYTES_MAX: usize = 256;
/// A token's name, which counters and logs may show.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;
/// A token may run ahead of its rate by this much, so that a batch larger than a second's share
/// passes once.
pub const RATE_BURST: Duration = Duration::from_secs(1);
/// A login form's body: `token=` and a token in percent escapes.
pub const LOGIN_BYTES_MAX: usize = KIB;

// ---- ingest ---------------------------------------------------------------------------------

/// Body on the wire, compressed or not; past it 413. One batch of 65,536 samples at 128 B is 8 MiB.
pub const BODY_BYTES_MAX: usize = 8 * MIB;
/// Body after decompression; past it 413.
pub const INFLATED_BYTES_MAX: usize = 32 * MIB;
/// Decompressed bytes per compressed byte once 64 KiB came out; past it 413.
pub const INFLATE_RATIO_MAX: usize = 100;
pub const INFLATE_RATIO_FREE_BYTES: usize = 64 * KIB;
/// Members of a gzip body, frames of a zstd body; past it 413. An empty one takes 8 bytes on the
/// wire and, in gzip's case, 40 KiB of fresh state here.
pub const INFLATE_PARTS_MAX: usize = 256;
/// What a core's buffers grew to for a body larger than this is given back after so many sweeps
/// without another, 2 s: an inflated body of 32 MiB, a batch of 25 MB. Smaller ones leave 0.5 MB.
pub const LARGE_BODY_BYTES: usize = 64 * KIB;
pub const LARGE_BODY_RESTS: u32 = 8;
/// Samples in one batch; past it 413. Must fit an empty ring, since a batch is taken whole.
pub const BATCH_SAMPLES_MAX: usize = 65_536;
/// JSON nesting; our documents need 3.
pub const JSON_DEPTH_MAX: usize = 16;
/// Host name bytes: a DNS name is 253.
pub const HOST_BYTES_MAX: usize = 253;
/// Metric name with its labels, bytes.
pub const METRIC_BYTES_MAX: usize = 256;
/// Labels in a metric name.
pub const METRIC_LABELS_MAX: usize = 16;
pub const UNIT_BYTES_MAX: usize = 16;
/// Tags of one host.
pub const TAGS_MAX: usize = 16;
pub const TAG_KEY_BYTES_MAX: usize = 64;
pub const TAG_VALUE_BYTES_MAX: usize = 128;
/// Keys and values of one host's tags together: 65,536 hosts x 1 KiB is a host table of 64 MiB.
pub const TAGS_BYTES_MAX: usize = KIB;
/// A sample's own time may run ahead of ours by this much; past it 422.
pub const FUTURE_MS_MAX: i64 = 10 * 60 * 1000;
/// A sender's clock that is off by less is right: networks take their time too.
pub const SKEW_MS_MIN: i64 = 2_000;
/// What a refused peer should wait; whole seconds, as `Retry-After` wants.
pub const RETRY_AFTER_SECONDS: u32 = 1;

// ---- rings and matrix -----------------------------------------------------------------------

/// Records a ring holds: 131,072 x 24 B = 3 MiB a core, over a second of a core's full rate between
/// two drains 10 ms apart.
pub const RING_CAPACITY: usize = 1 << 17;
/// How often the aggregator empties the rings; an idle round costs a few atomic loads a core.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// Hosts of a node; one more is folded into the host [`OTHER`].
pub const HOSTS_MAX: usize = 65_536;
/// Columns of a node; one more is folded into the column [`OTHER`].
pub const COLUMNS_MAX: usize = 4_096;
/// Live series of a node. 1 M x 12 B dense cells = 12 MB, sparse cells cost up to 48 B.
pub const SERIES_MAX: usize = 1_000_000;
/// The name that excess hosts and columns are folded into.
pub const OTHER: &str = "__other__";
/// Names remembered as offenders when a bound is hit.
pub const OFFENDERS_MAX: usize = 32;
/// A sparse column turns dense when more than slots / this many have it.
pub const PROMOTE_DIVISOR: usize = 8;
/// A column that fewer hosts have stays sparse whatever the fleet's size: a map of 64 stays in L1.
pub const PROMOTE_MIN: usize = 64;
/// A dense column turns sparse again where it would otherwise waste more than this many cells a
/// series: 16 x 12 B = 192 B. Twice [`PROMOTE_DIVISOR`], so that a column does not swing.
pub const DEMOTE_DIVISOR: usize = 2 * PROMOTE_DIVISOR;
/// Dense columns grow by this many slots: 1,024 x 12 B = 12 KiB.
pub const SLOTS_STEP: usize = 1_024;
/// Spellings of column names that one core remembers: each with its labels in order and once out
/// of order. A spelling past it is looked up under the catalog's lock.
pub const SPELLINGS_MAX: usize = 2 * COLUMNS_MAX;
/// Bytes kept of an offender's name.
pub const OFFENDER_BYTES_MAX: usize = 64;
/// Samples taken from one ring before the next one gets its turn: 4,096 x 10 ns = 41 us.
pub const DRAIN_BATCH: usize = 4_096;
/// Filters, and groupings, whose members the aggregator remembers: the views' and as many of
/// snapshots. 512 x 65,536 slots x 1 B = 32 MiB for filters, twice that for groupings.
pub const SELECTIONS_MAX: usize = 2 * VIEWS_MAX;
/// Host tables of before that slow readers may hold; past it 503. 65,536 hosts with names of 32 B
/// and tags of 100 B are 12 MB each, at the bounds of names and tags 90 MB.
pub const HOST_TABLES_OLD_MAX: usize = 4;
/// Bytes of one `hosts_patch`, about a thousand hosts; what is left goes with the next tick.
pub const HOSTS_PATCH_BYTES_MAX: usize = 64 * KIB;
/// What the aggregator spends on questions between two drains; the rest wait for the next round.
pub const QUESTION_BUDGET: Duration = Duration::from_millis(5);

// ---- silence --------------------------------------------------------------------------------

/// Arrivals closer than this are one arrival: a host that sends its metrics in several requests has
/// the rhythm of the whole.
pub const ARRIVAL_GAP_MIN: Duration = Duration::from_millis(50);
/// A host's rhythm before two arrivals have shown it.
pub const INTERVAL_UNKNOWN: Duration = Duration::from_secs(10);
/// A rhythm is clamped to this range: faster hosts would flicker at every garbage collection.
pub const INTERVAL_MIN: Duration = Duration::from_millis(500);
pub const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Intervals of silence after which a host is stale, then down.
pub const STALE_INTERVALS: u32 = 3;
pub const DOWN_INTERVALS: u32 = 10;
/// A host silent this long is forgotten and its slot given to another.
pub const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// A forgotten host's slot rests this long: every sample that was in a ring has come out by then.
pub const SLOT_REST: Duration = Duration::from_secs(10);
/// Hosts forgotten at one tick: 64 x 4,096 columns = 262,144 cells to clear, a few milliseconds.
pub const FORGETS_PER_TICK: usize = 64;

// ---- live -----------------------------------------------------------------------------------

pub const TICK_DEFAULT: Duration = Duration::from_millis(100);
pub const TICK_MIN: Duration = Duration::from_millis(10);
pub const TICK_MAX: Duration = Duration::from_secs(10);
/// Views a viewer may hold; one more is an `err`.
pub const VIEWS_PER_VIEWER_MAX: usize = 16;
/// Distinct views of a node; one more is an `err`. Each costs one encoding a tick.
pub const VIEWS_MAX: usize = 256;
/// Frames of one view a viewer may leave unacknowledged.
pub const UNACKED_FRAMES_MAX: u32 = 8;
/// A viewer that owes acknowledgements this long is closed (4008).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(15);
/// Messages of its own that wait for one viewer, bytes: one BACKFILL, and 8 KiB of control
/// messages. With one frame in flight, shared and thus not counted, and the kernel's send buffer
/// below, a frozen viewer stays under 64 KiB.
pub const CONTROL_OUT_BYTES_MAX: usize = 24 * KIB;
/// How far back a viewer of lines may ask: 360 points of 10 s.
pub const BACKFILL_S_MAX: u32 = 3_600;
/// One BACKFILL, which is made for one viewer; points are left out evenly until it fits. The wall's
/// 4 lines of an hour are 4 x 360 x 4 B = 6 KB, 100 lines with names of 40 B have 30 points each.
pub const BACKFILL_BYTES_MAX: usize = 16 * KIB;
/// How far back a viewer may rewind, and how fast it comes back: 60 steps of 10 s take 10 s.
pub const REPLAY_BACK: Duration = Duration::from_secs(48 * 3_600);
pub const REPLAY_SPEED_MAX: u32 = 60;
/// Viewers of a node that may be in the past at once; one more is an `err`. A REPLAY frame is made
/// for one viewer, which holds one at most, the next is asked for once it has gone. It waits in its
/// view's place, on top of [`CONTROL_OUT_BYTES_MAX`]: of a map of 65,536 hosts it is 2 B a slot,
/// and 16 x 128 KiB are 2 MiB.
pub const REPLAYS_MAX: usize = 16;
/// Messages that may wait for one viewer when another, shared by all, wants to join them.
pub const SHARED_WAITING_MAX: usize = 16;
/// Skips in [`LATE_WINDOW`] after which a view's rate is halved for a viewer.
pub const LATE_MAX: u32 = 2;
pub const LATE_WINDOW: Duration = Duration::from_secs(60);
/// Viewers a hub serves before other tasks of its core get their turn: 128 x 5 us is under 1 ms.
pub const BROADCAST_BATCH: usize = 128;
/// `SO_SNDBUF` of a viewer (the kernel doubles it).
pub const VIEWER_SEND_BUFFER_BYTES: usize = 16 * KIB;
/// A viewer whose socket takes nothing for this long is closed (1013).
pub const VIEWER_STALL_TIMEOUT: Duration = Duration::from_secs(30);
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Rows of a `top` view.
pub const TOP_ROWS_MAX: usize = 200;
/// The same when none were asked for.
pub const TOP_ROWS_DEFAULT: usize = 20;
/// Expressions of a `lines` view, and lines they may make with `by`.
pub const LINES_EXPRS_MAX: usize = 16;
pub const LINES_MAX: usize = 100;
/// Metrics, and rows of each, in the default view.
pub const DEFAULT_METRICS: usize = 32;
pub const DEFAULT_TOP_ROWS: usize = 5;
/// A filter's text, its terms, and its parentheses and `not`s inside one another.
pub const FILTER_BYTES_MAX: usize = KIB;
pub const FILTER_TERMS_MAX: usize = 32;
pub const FILTER_DEPTH_MAX: usize = 16;
/// Elements of a column that a reader of frames takes: a hostile length costs it 8 MiB at most.
pub const READER_CELLS_MAX: usize = 1 << 20;
/// A view repeats its KEY frame at least this often: it heals what nobody noticed.
pub const KEY_INTERVAL: Duration = Duration::from_secs(10);
/// Ticks that wait for a core that is late; an older one is given up, its viewers get a KEY.
pub const MAILBOX_TICKS: usize = 4;
/// Questions (`/api/snapshot` and the like) that wait for the aggregator; past it 503.
pub const QUESTIONS_MAX: usize = 256;

// ---- history --------------------------------------------------------------------------------

/// Samples between the aggregator and history: 262,144 x 24 B = 6 MiB, 2.6 s of 100,000 a second.
/// Past it they are not kept, and counted: the live wall waits for no disk.
pub const HISTORY_RING_CAPACITY: usize = 1 << 18;
/// Samples taken from it under one lock of the recent minutes: 4,096 x 50 ns = 0.2 ms.
pub const HISTORY_DRAIN_BATCH: usize = 4_096;
/// How often what came is written to the page cache, which outlives the process. With the drain of
/// the rings before it, a killed node loses some 60 ms of samples; the promise is 250.
pub const JOURNAL_INTERVAL: Duration = Duration::from_millis(50);
/// The same while somebody waits for a durable answer.
pub const JOURNAL_WANTED_INTERVAL: Duration = Duration::from_millis(2);
/// How often it is brought to the disk, which outlives the machine's power.
pub const JOURNAL_SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Records gathered before they are written, whatever waits in the ring: about a million samples.
pub const JOURNAL_BATCH_BYTES: usize = 8 * MIB;
/// A minute is stored this long after its end, and nothing is stored more often: what comes later
/// is a correction, which costs the store a row read and written again.
pub const HISTORY_GRACE: Duration = Duration::from_secs(5);
/// Writes that wait for the store; then minutes stay open, and join the next.
pub const HISTORY_PASSED_MAX: usize = 16;
/// How often a directory that cannot be opened, and a store that cannot be written, is tried again.
pub const HISTORY_REOPEN_INTERVAL: Duration = Duration::from_secs(10);
pub const HISTORY_RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// An hour is made of its minutes this long after its end, and made again for what came late only
/// so much later: with 100,000 series it takes seconds.
pub const HOUR_REST_MINUTES: i64 = 15;
pub const HOUR_REMAKE_MINUTES: i64 = 60;
/// The longest that anything is kept: ten years are 120 files of hours and 3,650 of days.
pub const HISTORY_DAYS_MAX: i64 = 3_653;
/// The longest range of one question.
pub const HISTORY_RANGE_MS_MAX: i64 = HISTORY_DAYS_MAX * 86_400_000;
/// The range of a question that names none.
pub const HISTORY_RANGE_DEFAULT_MS: i64 = 3_600_000;
/// Steps, or points, of one answer: 11,000 x some 25 B is 275 KB; more must be asked for in parts.
pub const HISTORY_POINTS_ANSWERED_MAX: usize = 11_000;
/// Questions about history that wait for the reader; one more is refused with 503.
pub const HISTORY_QUESTIONS_MAX: usize = 64;
/// What the database may take to answer for other nodes, and how long it is left alone after it did
/// not.
pub const HISTORY_REMOTE_TIMEOUT: Duration = Duration::from_secs(2);
pub const HISTORY_REMOTE_REST: Duration = Duration::from_secs(10);
/// What one question may take of the reader; past it 503, so that the next gets its turn.
pub const HISTORY_QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Series of which history knows what stands for them, 75 B each: 75 MB. One more counts only where
/// it has points.
pub const FOLD_SERIES_MAX: usize = SERIES_MAX;
/// Minutes in which nobody said anything that are told when somebody does again: as long as the
/// slowest rhythm stands.
pub const FOLD_MINUTES_MAX: i64 =
    (DOWN_INTERVALS as u64 * INTERVAL_MAX.as_secs()).div_ceil(60) as i64 + 1;
/// How long it is known how a series was counted that is silent: an agent has ten minutes of
/// readings to send once it can again.
pub const FOLD_KEPT_MINUTES: i64 = 15;
/// Minutes before the first one shown that are read to know what stood then: two of the slowest
/// rhythm, [`INTERVAL_MAX`].
pub const PAST_WARM_MINUTES: i64 = 10;
/// The past of lines of chosen hosts is asked for no sooner after a start: by then a host that
/// sends each ten seconds, or more often, has said its tags again.
pub const HOSTS_SETTLE: Duration = Duration::from_secs(10);
/// Rows, a host's minute of a metric each, that are read for lines of chosen hosts: 70 minutes of
/// 6,000 hosts, at 4 to 8 us each 2 to 3 s. Of more only the latest are shown.
pub const PAST_ROWS_MAX: usize = 420_000;
/// Rows of a series that are read one by one; if they took longer than from memory, the rest of a
/// day is brought in by so many threads: a day of a host, 1,440 rows with an empty page cache, took
/// 95 to 126 ms in place of 208 to 236 on a machine that was busy besides.
pub const READ_AHEAD_AFTER: i64 = 16;
pub const READ_AHEAD_WAIT: Duration = Duration::from_micros(16 * 50);
pub const READ_AHEAD_THREADS: usize = 8;
/// Lines of chosen hosts that are kept for the next who asks, so that viewers who come back
/// together are told for one: 16 x 100 lines x 360 steps x 8 B = 4.6 MB.
pub const PAST_LINES_KEPT: usize = 16;
/// Minutes of a metric by host that the reader keeps between two questions of a replay, so that 60x
/// reads a minute once and not six times: one for each replay, 16 x 65,536 x (6 steps x 8 B + 24 B)
/// = 75 MB.
pub const PICTURE_MINUTES_MAX: usize = REPLAYS_MAX;
/// They are let go once nobody asked for a picture this long.
pub const PICTURE_REST: Duration = Duration::from_secs(60);
/// Free bytes of the disk below which the oldest day makes room, and a share of the whole disk: the
/// lesser of the two, so that a small disk is not full from the start.
pub const HISTORY_FREE_BYTES: u64 = 256 * MIB as u64;
pub const HISTORY_FREE_DIVISOR: u64 = 20;
/// Points of one series in one minute that are kept one by one, a thousand a second: what a block's
/// 16 bits of count say. More are summed up in the row and counted as thinned.
pub const BLOCK_POINTS_MAX: usize = 65_535;
/// Acknowledgements of one WebSocket that wait for the disk; then it is read no further.
pub const DURABLE_ACKS_MAX: usize = 4_096;
/// Points held until their minute is stored; past it they are not kept, and counted. 14 B each is
/// 470 MB at the bound; 100,000 a second take 84 MB for each minute, some 2.2 of which are on their
/// way.
pub const HISTORY_POINTS_MAX: usize = 1 << 25;
/// Names held for them; then all are forgotten and learned anew. Twice [`SERIES_MAX`] x 150 B.
pub const HISTORY_NAMES_MAX: usize = 2 * SERIES_MAX;
/// Bytes of a segment after which the next one begins: some seven million samples.
pub const JOURNAL_SEGMENT_BYTES: usize = 64 * MIB;
/// One record of the journal. A reader trusts no longer one, so that a damaged length costs it
/// nothing.
pub const JOURNAL_RECORD_BYTES_MAX: usize = MIB;

// ---- history in MySQL -----------------------------------------------------------------------

/// Rows of one statement, a power of two: 512 x 9 values are 4,608 of the 65,535 that MySQL takes.
pub const MYSQL_ROWS_MAX: usize = 512;
/// Bytes of rows after which a batch is full. With the largest row on top, 640 KiB of points, it is
/// half of the least `max_allowed_packet` that is common, 4 MiB.
pub const MYSQL_BATCH_BYTES: usize = MIB;
/// From a question to its whole answer; past it the connection is given up as half-open. Twice what
/// the database may wait for a lock.
pub const MYSQL_TIMEOUT: Duration = Duration::from_secs(10);
pub const MYSQL_LOCK_WAIT_SECONDS: u64 = 5;
/// The same for a change of the schema: 34 partitions of a table, some 50 ms each on a slow disk.
pub const MYSQL_ALTER_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadlocks and lock waits of one batch, a random time of up to [`MYSQL_RETRY_MAX`] between two;
/// one more ends the session, and the next begins after its own wait.
pub const MYSQL_RETRIES_MAX: u32 = 8;
pub const MYSQL_RETRY_MAX: Duration = Duration::from_millis(200);
/// Prepared statements of a connection: four tables by ten sizes, and what reads.
pub const MYSQL_STATEMENTS_MAX: usize = 64;
/// Days whose partitions are made before they begin, and, in an empty database, before today; what
/// is older shares one.
pub const MYSQL_DAYS_AHEAD: i64 = 2;
pub const MYSQL_DAYS_BACK: i64 = 31;
/// How often partitions are made and dropped.
pub const MYSQL_CARE_INTERVAL: Duration = Duration::from_secs(600);
/// Names forgotten by one statement: a few hundred milliseconds.
pub const MYSQL_NAMES_PER_DELETE: u64 = 10_000;
/// Minutes of a series that one statement reads: past 200 MySQL stops counting each, and guesses.
pub const MYSQL_MINUTES_PER_SELECT: usize = 180;
/// Rows of one answer, of all nodes: 200,000 x 150 B are 30 MB, a month of minutes and more.
pub const MYSQL_ROWS_READ_MAX: usize = 200_000;
/// MySQL may lack what was stored for so long, two minutes' rows, before viewers are told.
pub const SHIP_LAG_DEGRADED: Duration = Duration::from_secs(180);
/// Flushes that the shipper looks up at a time.
pub const SHIP_PLAN_MAX: usize = 64;
/// How often it looks what is left, however seldom it is woken.
pub const SHIP_INTERVAL: Duration = Duration::from_secs(60);
/// What a stop leaves it to ship the rest.
pub const SHIP_STOP_TIMEOUT: Duration = Duration::from_secs(2);

// ---- WebSocket ------------------------------------------------------------------------------

/// One ingest message, all its fragments together; past it close 1009.
pub const INGEST_MESSAGE_BYTES_MAX: usize = MIB;
/// One message of a viewer.
pub const VIEWER_MESSAGE_BYTES_MAX: usize = 4 * KIB;
/// Fragments of one message, empty ones counted; past it close 1008.
pub const FRAGMENTS_MAX: usize = 64;
/// What tungstenite reads at a time, allocated per connection.
pub const WEBSOCKET_READ_BYTES: usize = 2 * KIB;
/// Control replies (acks, pongs) waiting for an ingest peer that does not read; past it reading
/// stops.
pub const WEBSOCKET_OUT_BYTES_MAX: usize = 64 * KIB;
/// Pings a peer may send in ten seconds; past it close 1008.
pub const PINGS_PER_TEN_SECONDS_MAX: u32 = 100;

/// A WebSocket peer that answers no ping for this long is gone.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(30);
/// From a message's first byte to its last; past it close 1008.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages of a viewer in ten seconds: an acknowledgement for each of 16 views at 10 Hz are 1,600;
/// past it close 1008.
pub const VIEWER_MESSAGES_PER_TEN_SECONDS_MAX: u32 = 4_000;
/// Time a peer gets to answer our close.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

// ---- cores and sockets ----------------------------------------------------------------------

/// How often a core looks for connections past their deadline; timeouts are this coarse.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Reads of one connection before others get their turn: 2 x 64 KiB of tiny messages are a few
/// milliseconds.
pub const READS_PER_TURN: u32 = 2;
/// Per-core read buffer; an idle connection owns none.
pub const READ_BUFFER_BYTES: usize = 64 * KIB;
/// Connections accepted before others get their turn.
pub const ACCEPT_BATCH: usize = 16;
/// Rest after EMFILE: ten tries a second cost nothing, a busy loop a core.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// A peer that acknowledges nothing we sent, or whose window stays shut, is given up by the kernel:
/// after every timeout of our own, so that it only ends what those have closed.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(40);
pub const LISTEN_BACKLOG: u32 = 4_096;
/// A core gives a connection away when it has this many more than the least loaded one.
pub const LOPSIDED_CONNECTIONS: usize = 16;
/// Connections on their way between two cores; past it the acceptor keeps them.
pub const HANDOVER_QUEUE: usize = 1_024;
/// Share of the file-descriptor limit that connections may take, in percent.
pub const CONNECTIONS_FD_PERCENT: u64 = 90;
/// An ordered stop is over after this, whatever peers do.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a node that is to stop may go on as before, not ready any more: a balancer that
/// asks each ten seconds has asked six times.
pub const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Time that connections get to finish what they began when a stop is asked for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Time the aggregator gives the cores to close their rings: twice what they take at most.
pub const RINGS_TIMEOUT: Duration = Duration::from_millis(3_000);

// ---- sending side ---------------------------------------------------------------------------

/// Readings an agent keeps while its server is away, oldest dropped first: ten minutes at one a
/// second; 600 x about 2 KiB is 1.2 MB.
pub const BACKLOG_READINGS: usize = 600;
/// Readings sent as one array once the server is back: about 100 KB, a tenth of
/// [`INGEST_MESSAGE_BYTES_MAX`].
pub const AGENT_BATCH_READINGS: usize = 100;
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From a request's last byte to its whole answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client comes back after a random time in this range, its upper end doubling up to the maximum.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// An answer's head, and its body.
pub const ANSWER_HEAD_BYTES_MAX: usize = 16 * KIB;
pub const ANSWER_BODY_BYTES_MAX: usize = 64 * KIB;
/// One message to a simulated viewer: a KEY of 65,536 hosts is 128 KiB, a `hosts_patch` of them 5
/// MB.
pub const FLEET_MESSAGE_BYTES_MAX: usize = 8 * MIB;
/// Readings of one simulated server that wait for its late answers; one more is lost and counted.
pub const FLEET_WAITING_MAX: usize = 600;
/// Unacknowledged messages of one simulated server on a WebSocket; HTTP/1.1 has one.
pub const FLEET_INFLIGHT_MAX: usize = 256;
/// Simulated servers that share an HTTP/2 connection, one request each on its way: what RFC 9113,
/// section 6.5.2, would have every server allow at least. One that allows fewer gets fewer.
pub const FLEET_SERVERS_PER_CONNECTION: usize = 100;
/// What their names may begin with, well within [`HOST_BYTES_MAX`].
pub const FLEET_PREFIX_BYTES_MAX: usize = 64;
/// A simulated viewer acknowledges after this many frames of one view.
pub const FLEET_ACK_EVERY: u32 = 4;

const _: () = assert!(FLEET_ACK_EVERY < UNACKED_FRAMES_MAX);
const _: () = assert!(
    BATCH_SAMPLES_MAX <= RING_CAPACITY,
    "a batch must fit an empty ring"
);
const _: () = assert!(RING_CAPACITY.is_power_of_two() && HISTORY_RING_CAPACITY.is_power_of_two());
const _: () = assert!(HISTORY_RING_CAPACITY.is_multiple_of(HISTORY_DRAIN_BATCH));
const _: () = assert!(BLOCK_POINTS_MAX <= u16::MAX as usize);
const _: () = assert!(
    HTTP2_TURN_BYTES / 10 * 255 < HTTP2_SMALL_DATA_BUDGET,
    "a turn of one-byte frames fits the budget"
);
const _: () = assert!(HTTP2_STREAM_WINDOW_BYTES <= HTTP2_CONNECTION_WINDOW_BYTES);
const _: () = assert!(3 * TOKEN_BYTES_MAX + 16 < LOGIN_BYTES_MAX);
const _: () = assert!(VIEWER_STALL_TIMEOUT.as_secs() < TCP_USER_TIMEOUT.as_secs());
const _: () = assert!(HOSTS_MAX < READER_CELLS_MAX);
const _: () = assert!(COLUMNS_MAX <= u16::MAX as usize);
const _: () = assert!(
    MYSQL_ROWS_MAX.is_power_of_two() && MYSQL_ROWS_MAX * 9 <= u16::MAX as usize,
    "a statement's rows fit its placeholders, and halve to one"
);
const _: () = assert!(
    MYSQL_BATCH_BYTES + 10 * BLOCK_POINTS_MAX < 2 * MIB,
    "a full batch and the largest row fit a packet"
);
const _: () = assert!(MYSQL_LOCK_WAIT_SECONDS * 2 <= MYSQL_TIMEOUT.as_secs());
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX && HEAD_BYTES_MAX < READ_BUFFER_BYTES);
const _: () = assert!(
    CONTROL_OUT_BYTES_MAX + 2 * VIEWER_SEND_BUFFER_BYTES <= 56 * KIB,
    "a frozen viewer stays under 64 KiB with 8 KiB for its own records"
);
const _: () = assert!(
    BACKFILL_BYTES_MAX + 8 * KIB <= CONTROL_OUT_BYTES_MAX,
    "a BACKFILL on its way leaves room for control messages"
);
const _: () = assert!(
    10_000 / REPLAY_SPEED_MAX >= 100,
    "the fastest replay has ten steps of 10 s a second, or fewer"
);
const _: () = assert!(HOSTS_MAX < u32::MAX as usize && LINES_MAX < u16::MAX as usize);
const _: () = assert!(
    FORGET_AFTER.as_secs() > DOWN_INTERVALS as u64 * INTERVAL_MAX.as_secs(),
    "a host is down before it is forgotten"
);
const _: () = assert!(
    FORGET_AFTER.as_millis() < u32::MAX as u128 / 4,
    "a cell's age is a difference of u32 milliseconds"
);
