//! Freed memory goes back to the system. A process of its own, as the limits are the process's.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

/// Memory of its own that this process has in use, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: Vec<_> = line.unwrap().split_whitespace().collect();
    kib[1].parse::<u64>().unwrap() << 10
}

#[test]
fn what_a_thread_freed_is_not_kept_by_the_allocator() {
    const BYTES: usize = 24 << 20;
    siltstone::return_freed_memory();
    let before = anonymous_bytes();
    for round in 0..4_u8 {
        let filter = std::hint::black_box(vec![round + 1; BYTES]);
        assert!(anonymous_bytes() > before + BYTES as u64 / 2);
        drop(filter);
    }
    let kept = anonymous_bytes().saturating_sub(before);
    assert!(kept < BYTES as u64 / 4, "{kept} bytes are kept");
}
