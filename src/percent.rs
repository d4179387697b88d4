//! Percent escapes and `+`, as forms and queries write them (WHATWG URL, section 5.1).

/// The text behind the escapes; an error is the offset of an escape that is none, or 0 for bytes
/// that are not UTF-8.
pub fn decode(text: &str) -> Result<String, usize> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((offset, byte)) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?.1).to_digit(16);
                let pair = digit().zip(digit());
                let (high, low) = pair.ok_or(offset)?;
                (high * 16 + low) as u8
            }
            _ => byte,
        });
    }
    String::from_utf8(out).map_err(|_| 0)
}

/// The decoded value of the first pair with this key in `a=b&c=d`.
pub fn value(pairs: &str, key: &str) -> Option<String> {
    let mut pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    decode(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(decode("a%41+%c3%A9"), Ok("aA é".to_owned()));
        assert_eq!(decode("a%4"), Err(1));
        assert_eq!(decode("%zz"), Err(0));
        assert_eq!(decode("ab%ff"), Err(0));
        assert_eq!(value("x=1&key=t%2Bw&key=2", "key"), Some("t+w".to_owned()));
        assert_eq!(value("key", "key"), None);
    }
}
