//! Amounts of memory as people write them.

/// Reads `512Mi`, `2GiB`, `1.5GB`, `300m` (megabytes) or a number of bytes.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = number * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between zero and a petabyte"
    )]
    (bytes.is_finite() && (0.0..1e15).contains(&bytes)).then_some(bytes as u64)
}

/// An amount in megabytes, as messages show it.
pub(crate) fn display(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// The memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineMemory {
    pub(crate) total_bytes: u64,
    /// What could be used without swapping.
    pub(crate) available_bytes: u64,
}

/// Reads `/proc/meminfo`; `None` where there is none.
pub(crate) fn of_machine() -> Option<MachineMemory> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<MachineMemory> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(MachineMemory {
        total_bytes: field("MemTotal:")?,
        available_bytes: field("MemAvailable:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_are_read() {
        assert_eq!(parse("512Mi"), Some(512 << 20));
        assert_eq!(parse("2GB"), Some(2_000_000_000));
        assert_eq!(parse("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(parse("1000"), Some(1000));
        assert_eq!(parse("many"), None);
        assert_eq!(parse("1e99g"), None);
    }

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       4000 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\n";
        let memory = parse_meminfo(text).unwrap();
        assert_eq!(
            (memory.total_bytes, memory.available_bytes),
            (4_096_000, 2_048_000)
        );
    }
}
