//! Numbers of bytes as people write them.

const UNITS: [&str; 5] = ["", "k", "m", "g", "t"];

/// Reads `5GB`, `1.5 GiB`, `500M` or a plain number; B counts by 1000, iB by 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write it as 5GB or 512MiB");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower[digits.len()..].trim_end_matches('b');
    let (unit, base) = match unit.strip_suffix('i') {
        Some("") => return Err(wrong()),
        Some(unit) => (unit, 1024f64),
        None => (unit, 1000f64),
    };
    let power = UNITS
        .iter()
        .position(|&known| known == unit)
        .ok_or_else(wrong)?;
    let number: f64 = digits.trim_end().parse().map_err(|_| wrong())?;
    let bytes = number * base.powi(power as i32);
    match bytes {
        1.0..1.8e19 => Ok(bytes as u64),
        _ => Err(wrong()),
    }
}

/// Three digits and a unit, as `14.5 GB`.
pub fn show(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB"].iter().peekable();
    while number >= 999.5 && units.len() > 1 {
        number /= 1000.;
        units.next();
    }
    let unit = units.next().copied().unwrap_or_default();
    let decimals = match number {
        _ if unit == "B" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("5GB"), Ok(5_000_000_000));
        assert_eq!(parse("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse("500m"), Ok(500_000_000));
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("12b"), Ok(12));
        for wrong in ["", "GB", "5XB", "-1GB", "0", "nan", "inf", "1e30GB", "5iB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(999), "999 B");
        assert_eq!(show(1000), "1.00 kB");
        assert_eq!(show(14_500_000_000), "14.5 GB");
        assert_eq!(show(999_600_000), "1.00 GB");
    }
}
