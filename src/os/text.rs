//! The program's own code in memory.

/// Takes the program's code out of this process: its pages stay in the kernel's page cache, and those that run next are mapped again.
///
/// For a process that has done its work and waits: the kernel maps sixteen pages around each that is touched, so that code which ran
/// once weighs more than all that is needed in the long run. Where `/proc` is not mounted nothing happens.
pub fn release() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = release as *const () as usize;
    if let Some((start, end)) = maps.lines().filter_map(code).find(|(start, end)| (*start..*end).contains(&here)) {
        // SAFETY: a mapping of a file that cannot be written through holds nothing that the file does not.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The range of a mapping that is private, may be run and cannot be written. proc_pid_maps(5).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split(' ');
    let (start, end) = words.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    if words.next()? == "r-xp" { Some((address(start)?, address(end)?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_and_cannot_be_written_is_code() {
        let line = |rights| format!("55b98fa8f000-55b990295000 {rights} 001c8000 fe:00 5308993   /usr/bin/stead");
        assert_eq!(code(&line("r-xp")), Some((0x55b9_8fa8_f000, 0x55b9_9029_5000)));
        assert_eq!(["r--p", "rw-p", "rwxp", "r-xs"].map(|rights| code(&line(rights))), [None; 4]);
        assert_eq!(code("garbage"), None);
    }
}
