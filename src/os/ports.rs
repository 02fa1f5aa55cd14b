//! Who listens on a port: /proc/net/tcp and tcp6 (proc_net_tcp(5)) joined with the descriptors of processes. Each reader stands on
//! a root path, /proc.

use super::file;
use std::path::Path;

/// TCP_LISTEN of the kernel's `tcp_states.h`.
const LISTEN: &str = "0A";

/// The inodes of the sockets that listen on a port, in this network namespace.
#[must_use]
pub fn listening(root: &Path, port: u16) -> Vec<u64> {
    let table = |name: &str| file::read_kernel(&root.join("net").join(name)).unwrap_or_default();
    [table("tcp"), table("tcp6")]
        .iter()
        .flat_map(|text| {
            let of_port = |line: &str| parse(line).filter(|(of, _)| *of == port).map(|(_, inode)| inode);
            String::from_utf8_lossy(text).lines().filter_map(of_port).collect::<Vec<u64>>()
        })
        .collect()
}

/// Port and inode of a line that listens: `0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 …`.
fn parse(line: &str) -> Option<(u16, u64)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|_| words.get(3) == Some(&LISTEN))?;
    Some((port, words.get(9)?.parse().ok()?))
}

/// The processes that have one of these sockets open, as far as their descriptors may be looked at.
#[must_use]
pub fn holders(root: &Path, sockets: &[u64]) -> Vec<i32> {
    let names: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let is_one = |entry: std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|link| names.iter().any(|name| link.as_os_str() == name.as_str()))
    };
    let mut pids: Vec<i32> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|_| !names.is_empty())
        .filter(|pid: &i32| {
            std::fs::read_dir(root.join(pid.to_string()).join("fd")).into_iter().flatten().flatten().any(is_one)
        })
        .collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn proc(tcp: &str, tcp6: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("net")).unwrap();
        fs::write(root.path().join("net/tcp"), tcp).unwrap();
        fs::write(root.path().join("net/tcp6"), tcp6).unwrap();
        root
    }

    #[test]
    fn who_listens_is_found_and_who_is_connected_is_not() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |port: &str, state: &str, inode: u64| {
            format!(
                "   0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 x 100\n"
            )
        };
        let six = "   0: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 44 1 x\n";
        let tcp = [head, &line("1388", "0A", 42), &line("1388", "01", 43), &line("1F40", "0A", 45)].concat();
        let root = proc(&tcp, six);
        assert_eq!(listening(root.path(), 5000), [42, 44]);
        assert_eq!(listening(root.path(), 8000), [45]);
        assert_eq!(listening(root.path(), 81), [] as [u64; 0]);
        for (pid, link) in [("12", "socket:[44]"), ("7", "socket:[42]"), ("8", "socket:[43]"), ("net2", "socket:[42]")]
        {
            fs::create_dir_all(root.path().join(pid).join("fd")).unwrap();
            symlink(link, root.path().join(pid).join("fd/3")).unwrap();
        }
        assert_eq!(holders(root.path(), &[42, 44]), [7, 12]);
        assert_eq!(holders(root.path(), &[]), [] as [i32; 0]);
    }

    #[test]
    fn where_nothing_can_be_read_nobody_is_found() {
        let root = tempfile::tempdir().unwrap();
        assert!(listening(root.path(), 80).is_empty() && holders(root.path(), &[1]).is_empty());
        assert!(holders(&root.path().join("none"), &[1]).is_empty());
    }

    #[test]
    fn garbage_is_passed_over() {
        let root = proc(
            "0: x\n: : : 0A\n0: 0:0050 0 0A\n\u{0} 0:FFFFF 0 0A 0 0 0 0 0 1\n0: 0:0050 0 0A 0 0 0 0 0 x",
            "\u{7f}",
        );
        assert_eq!(listening(root.path(), 80), [] as [u64; 0]);
        fs::create_dir_all(root.path().join("9/fd")).unwrap();
        fs::write(root.path().join("9/fd/0"), "socket:[1]").unwrap();
        fs::write(root.path().join("10"), "").unwrap();
        assert_eq!(holders(root.path(), &[1]), [] as [i32; 0]);
    }

    #[test]
    fn a_socket_of_our_own_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inodes = listening(Path::new("/proc"), socket.local_addr().unwrap().port());
        assert!(holders(Path::new("/proc"), &inodes).contains(&super::super::process::pid()));
    }
}
