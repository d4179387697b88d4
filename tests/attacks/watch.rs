//! What the kernel knows of a node: memory, descriptors, processor time.

use std::fs;

/// The node's own memory, without files and shared pages.
pub(crate) fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Processor time in user and system mode, in ticks of 10 ms (`USER_HZ` is 100 on Linux).
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may have spaces; fields 14 and 15 of proc(5) come 12 and 13 after.
    let after = stat.rsplit_once(") ").unwrap().1;
    let fields = after.split(' ').skip(11).take(2);
    fields
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum::<u64>()
        * 10
}
