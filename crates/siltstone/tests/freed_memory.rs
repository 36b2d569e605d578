//! Freed memory goes back to the system. A program of its own, as the limits are the process's and
//! are set before it has threads.
#![allow(clippy::unwrap_used, reason = "a test")]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn main() {
    const BYTES: usize = 24 << 20;
    assert!(siltstone::return_freed_memory());
    let before = anonymous_bytes();
    for round in 1..5_u8 {
        let filter = std::hint::black_box(vec![round; BYTES]);
        assert!(anonymous_bytes() > before + BYTES as u64 / 2);
        drop(filter);
    }
    let kept = anonymous_bytes().saturating_sub(before);
    assert!(kept < BYTES as u64 / 4, "{kept} bytes are kept");
    let beside_another = std::thread::scope(|scope| {
        let thread = scope.spawn(siltstone::return_freed_memory);
        thread.join().unwrap()
    });
    assert!(!beside_another, "never beside another thread");
    println!("what was freed is not kept by the allocator: ok");
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() {
    assert!(!siltstone::return_freed_memory());
}

/// Memory of its own that this process has in use, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: Vec<_> = line.unwrap().split_whitespace().collect();
    kib[1].parse::<u64>().unwrap() << 10
}
