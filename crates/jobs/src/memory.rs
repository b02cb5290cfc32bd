//! Amounts of memory as people write them.

/// Reads `512Mi`, `2GiB`, `1.5GB`, `300m` (megabytes) or a number of bytes.
pub(crate) fn parse(text: &str) -> Option<u64> {
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
}
