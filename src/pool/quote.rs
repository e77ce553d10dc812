//! Commands as one line for a shell.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// A command as one line of UTF-8 without control characters. A shell reads the same words from it; different commands
/// have different lines.
pub fn line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| quote(word.as_bytes())).collect();
    words.join(" ")
}

/// One word for a shell: as it is when no character of it means anything to a shell, else in single quotes, and with
/// control characters or bytes that are not UTF-8 as `$'..'` with octal escapes (POSIX.1-2024, 2.2.4; bash and zsh have
/// had it for long).
pub fn quote(word: &[u8]) -> Cow<'_, str> {
    // At the start of a line `a=1` would be a variable, but no program's name begins with a dash.
    let option = word.starts_with(b"-");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+:,./-".contains(&byte) || (option && byte == b'=');
    match std::str::from_utf8(word) {
        Ok(text) if !word.is_empty() && word.iter().copied().all(plain) => Cow::Borrowed(text),
        Ok(text) if !text.chars().any(char::is_control) => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
        _ => Cow::Owned(escape(word)),
    }
}

fn escape(word: &[u8]) -> String {
    let mut escaped = String::from("$'");
    for byte in word {
        match byte {
            b'\n' => escaped.push_str(r"\n"),
            b'\r' => escaped.push_str(r"\r"),
            b'\t' => escaped.push_str(r"\t"),
            b'\\' => escaped.push_str(r"\\"),
            b'\'' => escaped.push_str(r"\'"),
            b' '..=b'~' => escaped.push(char::from(*byte)),
            _ => escaped.push_str(&format!(r"\{byte:03o}")),
        }
    }
    escaped.push('\'');
    escaped
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_misread_them() {
        for (word, quoted) in [
            (&b"a-b_c/x.gz"[..], "a-b_c/x.gz"),
            (b"--level=9", "--level=9"),
            (b"a=b", "'a=b'"),
            (b"", "''"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"$(rm -rf ~)", "'$(rm -rf ~)'"),
            ("zoë".as_bytes(), "'zoë'"),
            (b"a\tb\nc", r"$'a\tb\nc'"),
            (b"\xff1'\\", r"$'\3771\'\\'"),
            ("\u{9b}".as_bytes(), r"$'\302\233'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    /// What a shell makes of the words: each on its own, ended with a NUL byte.
    fn read_by(shell: &str, words: &[OsString]) -> Vec<u8> {
        let script = format!(r"printf '%s\0' {}", line(words));
        let output = Command::new(shell).arg("-c").arg(script).output();
        output.unwrap_or_else(|error| panic!("this test needs {shell}: {error}")).stdout
    }

    fn with_nuls(words: &[Vec<u8>]) -> Vec<u8> {
        words.iter().flat_map(|word| [word.as_slice(), b"\0"].concat()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn sh_reads_what_was_quoted(words in prop::collection::vec("[ -~é\u{2028}]{0,12}", 1..6)) {
            let words: Vec<_> = words.into_iter().map(String::into_bytes).collect();
            let quoted: Vec<_> = words.iter().cloned().map(OsString::from_vec).collect();
            prop_assert_eq!(read_by("sh", &quoted), with_nuls(&words));
        }

        #[test]
        fn bash_reads_what_was_quoted_even_if_it_is_no_text(
            words in prop::collection::vec(prop::collection::vec(1_u8..=255, 0..12), 1..6)
        ) {
            let quoted: Vec<_> = words.iter().cloned().map(OsString::from_vec).collect();
            prop_assert_eq!(read_by("bash", &quoted), with_nuls(&words));
        }

        #[test]
        fn a_quoted_command_is_one_line(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..6)) {
            let words: Vec<_> = words.into_iter().map(OsString::from_vec).collect();
            prop_assert!(!line(&words).chars().any(char::is_control));
        }
    }
}
