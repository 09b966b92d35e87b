//! The date of a signature, in the basic format of ISO 8601: `20260131T235959Z`.

use agent_identity_core::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Reads `YYYYMMDD'T'HHMMSS'Z'`; `None` for any other form and for instants that no calendar has.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let digits = |from: usize, to: usize| -> Option<i16> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let two = |from: usize| digits(from, from + 2).and_then(|value| i8::try_from(value).ok());
    if text.len() != 16 || text.get(8..9)? != "T" || text.get(15..)? != "Z" {
        return None;
    }
    let civil = DateTime::new(digits(0, 4)?, two(4)?, two(6)?, two(9)?, two(11)?, two(13)?, 0).ok()?;
    Some(Timestamp::from_seconds(Offset::UTC.to_timestamp(civil).ok()?.as_second()))
}

/// Writes an instant as [`parse`] reads it. An instant beyond the year 9999 becomes the epoch.
pub(super) fn format(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_seconds()).unwrap_or_default();
    let civil = Offset::UTC.to_datetime(at);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_basic_format_is_a_date() {
        assert_eq!(parse("20260131T235959Z").map(Timestamp::as_seconds), Some(1_769_903_999));
        for text in [
            "",
            "2026-01-31T23:59:59Z",
            "20260131T235959",
            "20260131t235959z",
            "20260230T000000Z",
            "20260131T245959Z",
            "20260131T235960Z",
            "+2260131T235959Z",
            "2026013€T23595Z",
            "20260131T235959Z ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_date_round_trips(seconds in 0_i64..253_402_300_799) {
            let at = Timestamp::from_seconds(seconds);
            prop_assert_eq!(parse(&format(at)), Some(at));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
