//! One attack from beginning to end: a calm stretch, the attack, and what is left of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::honest::{Honest, Latency, Phase};
use crate::support::{Node, PATIENCE, binary, eventually};
use crate::watch::{anonymous_bytes, cpu_ms, open_files};

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// What a node promises under one attack.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static [&'static str],
    /// Threads, each with one connection or more.
    pub(crate) attackers: usize,
    /// An attack that waits for a timeout lasts at least this long.
    pub(crate) seconds_min: u64,
    /// The node's own memory may grow by this much.
    pub(crate) growth_max: u64,
    /// And keep this much, besides a tenth of what it had.
    pub(crate) kept_max: u64,
    /// A counter of `/metrics`, maybe with labels, that must move.
    pub(crate) counter: &'static str,
    /// What attackers may meet, and each of it must be met.
    pub(crate) answers: &'static [&'static str],
    /// What they may meet besides.
    pub(crate) also: &'static [&'static str],
    pub(crate) honest: usize,
    /// Whether some of the honest open a connection for each request.
    pub(crate) reconnect: bool,
    /// Limit of open files the node is started under.
    pub(crate) files_max: Option<u32>,
    /// What the honest come in by, with all scopes.
    pub(crate) token: Option<&'static str>,
}

/// Nothing in particular. What stays after any attack is no leak: allocators deal in pages, and
/// some that the attack filled now hold a few blocks of the honest, who went on all the while.
pub(crate) const PLAN: Plan = Plan {
    name: "",
    flags: &[],
    attackers: 4,
    seconds_min: 0,
    growth_max: 8 * MIB,
    kept_max: 2 * MIB,
    counter: "tidewall_refusals_total",
    answers: &[],
    also: &[],
    honest: 0,
    reconnect: true,
    files_max: None,
    token: None,
};

impl Plan {
    fn posters(&self) -> usize {
        match self.honest {
            0 if is_long() => 100,
            0 => 20,
            count => count,
        }
    }

    /// Connections that honest clients may have open at one moment and not at another.
    fn coming_and_going(&self) -> usize {
        if self.reconnect {
            self.posters() / 4 + 1
        } else {
            0
        }
    }
}

/// How long each attack lasts: `ATTACK_SECONDS`.
pub(crate) fn seconds() -> u64 {
    let said = std::env::var("ATTACK_SECONDS");
    said.map_or(2, |seconds| seconds.parse().unwrap())
}

pub(crate) fn is_long() -> bool {
    10 <= seconds()
}

/// What attackers see of their siege.
pub(crate) struct Field<'n> {
    pub(crate) node: &'n Node,
    until: Instant,
    met: Mutex<BTreeMap<String, u64>>,
}

impl Field<'_> {
    pub(crate) fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    pub(crate) fn rest(&self, pause: Duration) {
        let left = self.until.saturating_duration_since(Instant::now());
        thread::sleep(pause.min(left));
    }

    /// Notes how the node took something.
    pub(crate) fn meets(&self, answer: impl Into<String>) {
        *self.met.lock().unwrap().entry(answer.into()).or_default() += 1;
    }
}

pub(crate) fn start(plan: &Plan) -> Node {
    start_with(plan, &[])
}

pub(crate) fn start_with(plan: &Plan, more: &[&str]) -> Node {
    let mut command = match plan.files_max {
        None => Command::new(binary()),
        Some(files) => {
            let mut shell = Command::new("sh");
            let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
            shell.args(["-c", &script]).arg(binary());
            shell
        }
    };
    // With huge pages memory moves in steps of 2 MiB, which hides what is to be seen.
    command.env("MIMALLOC_ALLOW_THP", "0");
    Node::start_by(command, &[plan.flags, more].concat())
}

pub(crate) fn besiege(plan: &Plan, attack: impl Fn(&Field<'_>, usize) + Sync) -> Node {
    let node = start(plan);
    besiege_node(&node, plan, attack);
    node
}

/// Done at the end, even when an assertion fails: a scope waits for all its threads.
struct Finally<F: Fn()>(F);

impl<F: Fn()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

pub(crate) fn besiege_node(node: &Node, plan: &Plan, attack: impl Fn(&Field<'_>, usize) + Sync) {
    let honest = Honest::default();
    thread::scope(|scope| {
        let _dismissal = Finally(|| honest.dismiss());
        for number in 0..plan.posters() {
            let honest = &honest;
            scope.spawn(move || honest.post(node, plan, number));
        }
        for dialect in 0..3 {
            let honest = &honest;
            scope.spawn(move || honest.watch(node, plan, dialect));
        }
        let attacked = watched(node, plan, &honest, attack);
        honest.dismiss();
        attacked.judge(plan, &honest);
    });
    balance(node, plan);
}

/// Figures of one attack.
struct Attacked {
    met: BTreeMap<String, u64>,
    bytes: [u64; 3],
    files: [usize; 3],
    /// Processor time in percent of one core, before and during.
    cpu: [u64; 2],
    counted: u64,
    lasted: Duration,
}

fn watched(
    node: &Node,
    plan: &Plan,
    honest: &Honest,
    attack: impl Fn(&Field<'_>, usize) + Sync,
) -> Attacked {
    let pid = node.pid();
    let calm = Duration::from_millis((seconds() * 1000 / 4).clamp(700, 10_000));
    // The first requests warm what is reused.
    thread::sleep(calm / 2);
    honest.enter(Phase::Baseline);
    let cpu_before = cpu_ms(pid);
    thread::sleep(calm);
    let cpu_calm = cpu_ms(pid) - cpu_before;
    let counted = counter(node, plan, plan.counter);
    let (bytes_before, files_before) = (anonymous_bytes(pid), open_files(pid));

    honest.enter(Phase::Attack);
    let (began, cpu_began) = (Instant::now(), cpu_ms(pid));
    let field = Field {
        node,
        until: began + Duration::from_secs(seconds().max(plan.seconds_min)),
        met: Mutex::default(),
    };
    let (over, peak) = (AtomicBool::new(false), AtomicU64::new(bytes_before));
    let files_peak = AtomicU64::new(0);
    thread::scope(|scope| {
        let _over = Finally(|| over.store(true, Relaxed));
        scope.spawn(|| {
            while !over.load(Relaxed) {
                peak.fetch_max(anonymous_bytes(pid), Relaxed);
                files_peak.fetch_max(open_files(pid) as u64, Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
        });
        thread::scope(|attackers| {
            for number in 0..plan.attackers {
                let (attack, field) = (&attack, &field);
                attackers.spawn(move || attack(field, number));
            }
        });
    });
    let lasted = began.elapsed();
    let cpu_attack = cpu_ms(pid) - cpu_began;

    honest.enter(Phase::After);
    let files_max = files_before + plan.coming_and_going();
    let bytes_max = bytes_before + bytes_before / 10 + plan.kept_max;
    let until = Instant::now() + PATIENCE;
    let is_back = || anonymous_bytes(pid) <= bytes_max && open_files(pid) <= files_max;
    while !is_back() && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    // Long enough that a core that stands still would be noticed by the honest.
    thread::sleep(Duration::from_millis(300));
    let percent = |ms: u64, of: Duration| ms * 100 / u64::try_from(of.as_millis()).unwrap();
    Attacked {
        met: field.met.into_inner().unwrap(),
        bytes: [bytes_before, peak.into_inner(), anonymous_bytes(pid)],
        files: [
            files_before,
            usize::try_from(files_peak.into_inner()).unwrap(),
            open_files(pid),
        ],
        cpu: [percent(cpu_calm, calm), percent(cpu_attack, lasted)],
        counted: counter(node, plan, plan.counter) - counted,
        lasted,
    }
}

impl Attacked {
    fn judge(&self, plan: &Plan, honest: &Honest) {
        let name = plan.name;
        self.report(plan, honest);
        for answer in self.met.keys().map(String::as_str) {
            let stated = plan.answers.contains(&answer) || plan.also.contains(&answer);
            assert!(stated, "{name}: met {answer:?}: {:?}", self.met);
        }
        for answer in plan.answers {
            assert!(
                self.met.contains_key(*answer),
                "{name}: never met {answer:?}: {:?}",
                self.met
            );
        }
        assert!(
            plan.counter.is_empty() || 0 < self.counted,
            "{name}: {}",
            plan.counter
        );
        let failures = honest.failures();
        assert!(
            failures.is_empty(),
            "{name}: honest clients failed: {failures:?}"
        );
        assert!(
            0 < honest.frames.load(Relaxed),
            "{name}: nobody saw a frame"
        );
        assert!(
            0 < honest.latency(Phase::Attack).posts,
            "{name}: nobody could post"
        );
        let [before, peak, after] = self.bytes;
        let mib = |bytes: u64| bytes / MIB;
        assert!(
            peak <= before + plan.growth_max,
            "{name}: grew from {} to {} MiB, by {} at most",
            mib(before),
            mib(peak),
            mib(plan.growth_max)
        );
        assert!(
            after <= before + before / 10 + plan.kept_max,
            "{name}: kept {} MiB of {}, {} before",
            mib(after),
            mib(peak),
            mib(before)
        );
        let files_max = self.files[0] + plan.coming_and_going();
        assert!(self.files[2] <= files_max, "{name}: files {:?}", self.files);
    }

    /// One row of the table, on stderr and where `ATTACK_TABLE` says.
    fn report(&self, plan: &Plan, honest: &Honest) {
        let mut met = String::new();
        for (answer, times) in &self.met {
            let comma = if met.is_empty() { "" } else { ", " };
            let _ = write!(met, "{comma}{answer} × {times}");
        }
        let milli = |us: u64| us as f64 / 1000.0;
        let show = |of: Latency| format!("{:.1} / {:.1}", milli(of.p50_us), milli(of.p99_us));
        let (calm, attack) = (
            honest.latency(Phase::Baseline),
            honest.latency(Phase::Attack),
        );
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let [before, peak, after] = self.bytes.map(mib);
        let row = format!(
            "| {} | {} s | {met} | {before:.1} → {peak:.1} (+{}) → {after:.1} | {} → {} → {} | \
             {} → {} | {}, {} failed | {} | {} |",
            plan.name,
            self.lasted.as_secs(),
            plan.growth_max / MIB,
            self.files[0],
            self.files[1],
            self.files[2],
            self.cpu[0],
            self.cpu[1],
            attack.posts,
            honest.failures().len(),
            show(calm),
            show(attack),
        );
        eprintln!("{row}");
        if let Some(path) = std::env::var_os("ATTACK_TABLE") {
            let table = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            writeln!(table.unwrap(), "{row}").unwrap();
        }
    }
}

/// The sum of all lines of `/metrics` that begin with `name`, labels and all.
pub(crate) fn counter(node: &Node, plan: &Plan, name: &str) -> u64 {
    let field = plan.token.map(|token| format!("X-API-Key: {token}\r\n"));
    let field = field.unwrap_or_default();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{field}\r\n");
    let text = node.connect().ask(&request).unwrap().body;
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
    let lines = text
        .lines()
        .filter(|line| !name.is_empty() && line.starts_with(name));
    lines.map(value).sum()
}

/// The ledger adds up whatever happened.
fn balance(node: &Node, plan: &Plan) {
    let total = |what: &str| counter(node, plan, &format!("tidewall_samples_{what}_total"));
    eventually("an exact ledger", || {
        total("accepted") == total("aggregated")
            && total("received") == total("accepted") + total("rejected")
    });
}
