//! What a process that does little but serve a database may want to set for itself.
#![allow(unsafe_code, reason = "the allocator is asked through its C interface")]

/// Has the C library's allocator give freed memory back to the system from a mebibyte on. Answers
/// whether it did: only where the allocator is glibc's, and only while the process has one thread, so
/// call it first in `main`.
///
/// By default that allocator raises its limits as it goes, to 32 MiB for what it maps apart and twice
/// that for what each of its arenas keeps; threads that flush and compact then hold tens of
/// mebibytes that nobody uses, on top of the memory budget. The `siltstone` command calls this. The
/// limits are of the whole process, which is why opening a database does not set them.
pub fn return_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if is_the_only_thread() {
        const FROM: libc::c_int = 1 << 20;
        let set = |limit| {
            // SAFETY: `mallopt` takes two numbers and changes no allocation that there is. It must not
            // run beside other threads (it sets what they read); there is none, and this one, which
            // alone could start one, is here.
            unsafe { libc::mallopt(limit, FROM) == 1 }
        };
        return set(libc::M_MMAP_THRESHOLD) & set(libc::M_TRIM_THRESHOLD);
    }
    false
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn is_the_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
