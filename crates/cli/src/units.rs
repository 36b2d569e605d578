//! Numbers as people write and read them.

use siltstone::{SegmentId, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a size: `4096`, `64KiB`, `1.5MiB`, `2GB` (1,000 to the power), `64k` (1,024 to the power).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => {
            return Err(format!(
                "unknown unit {unit:?}; write for example 64KiB, 1.5MiB or 2GB"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "write for example 4096, 64KiB or 1.5MiB".to_string())?;
    let bytes = number * factor;
    if !bytes.is_finite() || bytes >= u64::MAX as f64 {
        return Err("is too large".into());
    }
    Ok(bytes as u64)
}

/// Reads a time: RFC 3339, in UTC, or a date alone.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_string(),
    };
    let time = humantime::parse_rfc3339_weak(&whole)
        .map_err(|_| "write a time in UTC as 2026-01-31T23:59:00Z, or a date".to_string())?;
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_err(|_| "lies before 1970".to_string())?;
    Ok(Timestamp(
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
    ))
}

/// Reads a span of time: `90s`, `1h 30m`, `7days`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write for example 90s, 1h or 7days".to_string())
}

/// A time as RFC 3339, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    let at: SystemTime = UNIX_EPOCH + Duration::from_micros(at.0);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A count with thousands apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and what is counted.
pub(crate) fn plural(n: u64, one: &str, many: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{} {many}", count(n)),
    }
}

/// An ordinal: `2nd`, `10th`, `1,000th`.
pub(crate) fn nth(n: u64) -> String {
    let ending = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{}{ending}", count(n))
}

/// A size in bytes, to three digits.
pub(crate) fn bytes(n: u64) -> String {
    let mut size = n as f64;
    if n < 1024 {
        return format!("{n} B");
    }
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        size /= 1024.0;
        if size < 1000.0 || unit == "TiB" {
            return match size {
                size if size < 10.0 => format!("{size:.2} {unit}"),
                size if size < 100.0 => format!("{size:.1} {unit}"),
                size => format!("{size:.0} {unit}"),
            };
        }
    }
    unreachable!("the last unit always answers")
}

/// A duration, to three digits.
pub(crate) fn duration(d: Duration) -> String {
    let micros = d.as_secs_f64() * 1e6;
    let three = |n: f64, unit: &str| match n {
        n if n < 10.0 => format!("{n:.2} {unit}"),
        n if n < 100.0 => format!("{n:.1} {unit}"),
        n => format!("{n:.0} {unit}"),
    };
    match micros {
        m if m < 1.0 => format!("{:.0} ns", m * 1e3),
        m if m < 1e3 => three(m, "µs"),
        m if m < 1e6 => three(m / 1e3, "ms"),
        m => three(m / 1e6, "s"),
    }
}

/// Tables by the names of their files.
pub(crate) fn names(tables: &[SegmentId]) -> Vec<String> {
    tables.iter().map(SegmentId::to_string).collect()
}

/// How many a second.
pub(crate) fn rate(n: u64, in_time: Duration) -> String {
    format!(
        "{}/s",
        count((n as f64 / in_time.as_secs_f64().max(1e-9)) as u64)
    )
}

/// Bytes as one line of text: printable as it is, tabs, line breaks and what is no text escaped.
pub(crate) fn line_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        out.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_end_as_they_are_spoken() {
        let all = [1, 2, 3, 4, 10, 11, 12, 13, 21, 102, 111, 1_000].map(nth);
        let ordinals = "1st 2nd 3rd 4th 10th 11th 12th 13th 21st 102nd 111th 1,000th";
        assert_eq!(all.join(" "), ordinals);
    }

    #[test]
    fn sizes_read_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("1.5MiB", 1_572_864),
            ("2GB", 2_000_000_000),
            ("3 k", 3072),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MiB", "5 parsecs", "1e3", "-1", "99999999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1_047_000), "0.998 MiB".replace("0.998", "1.00"));
        assert_eq!(duration(Duration::from_nanos(41_000)), "41.0 µs");
        assert_eq!(duration(Duration::from_millis(1500)), "1.50 s");
        assert_eq!(plural(1, "table", "tables"), "1 table");
    }

    #[test]
    fn times_read_and_print() {
        let at = parse_time("2026-01-31T23:59:00Z").unwrap();
        assert_eq!(time(at), "2026-01-31T23:59:00Z");
        assert_eq!(
            time(parse_time("2026-01-31").unwrap()),
            "2026-01-31T00:00:00Z"
        );
        assert!(parse_time("yesterday").is_err());
        assert!(parse_time("1969-01-01").is_err());
    }

    #[test]
    fn any_bytes_make_one_line() {
        assert_eq!(line_text("Übung\t1\n".as_bytes()), "Übung\\t1\\n");
        assert_eq!(line_text(b"a\xffb\x00"), "a\\xffb\\x00");
    }
}
