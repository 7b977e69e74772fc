//! The numbers of the process, under the names that they have in all programs.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::encode::MetricsEncoder;

const NS_PER_SECOND: f64 = 1e9;

/// Reads them when it is asked. What this system does not tell is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    started: SystemTime,
}

impl ProcessCollector {
    /// Of a process that starts now.
    pub(super) fn new() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = MetricsEncoder(encoder);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        to.gauge_of("process_start_time_seconds", "When the process has started, since 1970", started)?;
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / NS_PER_SECOND;
        to.counter_of("process_cpu_seconds", "Time that the process has computed", cpu_seconds)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kib) = field(&status, "VmRSS:") {
            to.gauge("process_resident_memory_bytes", "Memory that the process has in use", kib << 10)?;
        }
        if let Some(kib) = field(&status, "VmSize:") {
            to.gauge("process_virtual_memory_bytes", "Addresses that the process has in use", kib << 10)?;
        }
        if let Some(threads) = field(&status, "Threads:") {
            to.gauge("process_threads", "Threads of the process", threads)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is read here.
            let open = (files.count() as u64).saturating_sub(1);
            to.gauge("process_open_fds", "Files that the process has open, with connections", open)?;
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            to.gauge("process_max_fds", "The most files that it may have open", max)?;
        }
        Ok(())
    }
}

/// A number of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read() {
        let status = "Name:\tengram\nVmSize:\t  123456 kB\nVmRSS:\t    4321 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(4_321));
        assert_eq!(field(status, "Threads:"), Some(7));
        assert_eq!((field(status, "VmSwap:"), field("VmRSS: lots", "VmRSS:")), (None, None));
    }
}
