//! Bytes in hexadecimal.

/// Appends two digits a byte.
pub fn push(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[digit as usize])));
}

/// The bytes that `digits` stand for: two digits a byte, in upper or lower case, with spaces or not.
///
/// # Errors
/// Says what is wrong with them.
pub fn parse(digits: &[u8]) -> Result<Vec<u8>, String> {
    let values = digits.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| {
        let value = char::from(*byte).to_digit(16).map(|value| value as u8);
        value.ok_or_else(|| format!("'{}' is no hexadecimal digit", byte.escape_ascii()))
    });
    let values: Vec<_> = values.collect::<Result<_, _>>()?;
    if values.len() % 2 == 1 {
        return Err(format!("{} hexadecimal digits are half a byte too many", values.len()));
    }
    Ok(values.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_may_be_of_either_case_and_apart() {
        assert_eq!(parse(b"de AD be ef"), Ok(vec![0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(parse(b""), Ok(vec![]));
        assert!(parse(b"abc").unwrap_err().contains("half a byte"));
        assert!(parse(b"0x").unwrap_err().contains("'x'"));
        assert!(parse(b"\xff\xff").unwrap_err().contains("\\xff"));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut digits = String::new();
            push(&bytes, &mut digits);
            prop_assert_eq!(parse(digits.as_bytes()), Ok(bytes));
        }
    }
}
