//! What a process that does little but serve a database may want to set for itself.
#![allow(unsafe_code, reason = "the allocator is asked through its C interface")]

/// Has the C library's allocator give freed memory back to the system from a mebibyte on, where the
/// process uses that allocator (glibc's); elsewhere this does nothing.
///
/// By default that allocator raises its limits as it goes, to 32 MiB for what it maps apart and twice
/// that for what each of its arenas keeps; threads that flush and compact then hold tens of
/// mebibytes that nobody uses, on top of the memory budget. Call it at the start of a program, before
/// threads allocate. The `siltstone` command does. The limits are of the whole process, which is why
/// opening a database does not set them.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const FROM: libc::c_int = 1 << 20;
        for limit in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
            // SAFETY: `mallopt` takes two numbers, may be called at any time by any thread, and
            // changes no allocation that there is. One that it refuses stays as it was.
            unsafe { libc::mallopt(limit, FROM) };
        }
    }
}
