//! Decimal numbers as people write them.

/// The number in one way of writing: `$1,234.50.` is `1234.5`; `None` where there is no number.
pub(crate) fn decimal(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .filter(|letter| !matches!(letter, ',' | '$') && !letter.is_whitespace())
        .collect();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    let digits = digits.strip_suffix('.').unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (whole, fraction) = (
        whole.trim_start_matches('0'),
        fraction.trim_end_matches('0'),
    );
    Some(match (whole, fraction) {
        ("", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        ("", fraction) => format!("{sign}0.{fraction}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_form() {
        for (text, expected) in [
            ("18", Some("18")),
            ("18.", Some("18")),
            ("18.00", Some("18")),
            ("$1,234.50.", Some("1234.5")),
            ("-007.10", Some("-7.1")),
            (".5", Some("0.5")),
            ("-0.0", Some("0")),
            ("-$5", Some("-5")),
            ("1.2.3", None),
            ("--5", None),
            ("5-3", None),
            (".", None),
            ("", None),
            ("12345678901234567890123", Some("12345678901234567890123")),
        ] {
            assert_eq!(decimal(text).as_deref(), expected, "{text}");
        }
    }
}
