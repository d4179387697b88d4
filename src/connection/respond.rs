//! HTTP/1.1 answers as bytes (RFC 9112 section 4).

use std::io::Write;

use crate::reject::phrase;

/// What the status line and the framing need to know of the request.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The method was HEAD: the length is told, the body left out.
    pub head_only: bool,
    pub keep_alive: bool,
}

/// The head of an answer, without its body.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    pub status: u16,
    pub content_type: &'r str,
    pub length: usize,
    pub fields: &'r [(&'static str, String)],
    /// An HTTP-date, RFC 9110 section 5.6.7.
    pub date: &'r str,
}

/// The hot path: a batch was taken.
pub fn accepted(out: &mut Vec<u8>, samples: usize, date: &str, keep_alive: bool) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(samples);
    let length = b"{\"accepted\":}".len() + digits.len();
    out.extend_from_slice(b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nDate: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    let end: &[u8] = if keep_alive {
        b"\r\n\r\n"
    } else {
        b"\r\nConnection: close\r\n\r\n"
    };
    out.extend_from_slice(end);
    out.extend_from_slice(b"{\"accepted\":");
    out.extend_from_slice(digits.as_bytes());
    out.push(b'}');
}

/// Any other answer's head. Writing into a Vec cannot fail.
pub fn head(out: &mut Vec<u8>, head: &Head<'_>, manner: Manner) {
    let _ = write!(
        out,
        "HTTP/1.1 {} {}\r\nDate: {}\r\n",
        head.status,
        phrase(head.status),
        head.date
    );
    // RFC 9110 section 8.6: no Content-Length in 1xx and 204, and in 304 only that of the 200.
    if !matches!(head.status, 204 | 304) {
        let _ = write!(out, "Content-Length: {}\r\n", head.length);
    }
    if !head.content_type.is_empty() {
        let _ = write!(out, "Content-Type: {}\r\n", head.content_type);
    }
    for (name, value) in head.fields {
        debug_assert!(
            value
                .bytes()
                .all(|b| b == b'\t' || (b' '..0x7f).contains(&b))
        );
        let _ = write!(out, "{name}: {value}\r\n");
    }
    let end = if manner.keep_alive {
        "\r\n"
    } else {
        "Connection: close\r\n\r\n"
    };
    out.extend_from_slice(end.as_bytes());
}

pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The answer to a WebSocket handshake (RFC 6455 section 4.2.2).
pub fn switching(out: &mut Vec<u8>, accept: &str, protocol: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    let _ = write!(out, "Sec-WebSocket-Accept: {accept}\r\n");
    if let Some(protocol) = protocol {
        let _ = write!(out, "Sec-WebSocket-Protocol: {protocol}\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Replaces `date` by the HTTP-date of seconds since the epoch. In place: a core does so for ever.
pub fn write_date(date: &mut String, unix_s: i64) {
    use std::fmt::Write;
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let name = DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS[month];
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let second = second % 60;
    date.clear();
    let _ = write!(
        date,
        "{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    );
}

/// Year, month from 0 and day of a day number, by the count of days in 400 years.
fn civil(days: i64) -> (i64, usize, i64) {
    // Years that begin in March put the leap day last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = year + era * 400 + i64::from(month < 2);
    (year, usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_hot_answer_is_well_formed() {
        let mut out = Vec::new();
        accepted(&mut out, 12, "D", true);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("\r\nContent-Length: 15\r\n\r\n{\"accepted\":12}"),
            "{text}"
        );
    }

    #[test]
    fn dates() {
        // The example of RFC 9110 section 5.6.7, leap days and the turn of a century.
        let http_date = |unix_s| {
            let mut date = "before".to_owned();
            write_date(&mut date, unix_s);
            date
        };
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(1_763_918_083), "Sun, 23 Nov 2025 17:14:43 GMT");
        assert_eq!(http_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    /// A cache takes a 304's length for that of the answer it has, and 0 would empty it.
    #[test]
    fn an_answer_without_content_tells_no_length() {
        for status in [204, 304] {
            let mut out = Vec::new();
            let answer = Head {
                status,
                content_type: "",
                length: 0,
                fields: &[],
                date: "D",
            };
            let manner = Manner {
                head_only: false,
                keep_alive: true,
            };
            head(&mut out, &answer, manner);
            let text = String::from_utf8(out).unwrap();
            assert!(text.ends_with("\r\nDate: D\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn a_close_is_announced() {
        let mut out = Vec::new();
        let fields = [("Retry-After", "1".to_owned())];
        let text = Head {
            status: 503,
            content_type: "",
            length: 0,
            fields: &fields,
            date: "D",
        };
        head(
            &mut out,
            &text,
            Manner {
                head_only: false,
                keep_alive: false,
            },
        );
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Retry-After: 1\r\nConnection: close\r\n\r\n"),
            "{text}"
        );
    }
}
