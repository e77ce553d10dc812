//! Text from elsewhere on its way to a person: it must not move a terminal's cursor, nor end its line.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character does something instead of being seen.
fn is_hidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends text in one line. The backslash is escaped, too, so that nothing can pass for an escape.
pub fn push_escaped(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hidden if is_hidden(hidden) => push_hidden(hidden, out),
            plain => out.push(plain),
        }
    }
}

/// Text in one line, as [`push_escaped`] writes it.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|character| character == '\\' || is_hidden(character)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    push_escaped(text, &mut out);
    Cow::Owned(out)
}

/// Text as it is, lines and all, but for what would move the cursor elsewhere.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let moves = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    if !text.chars().any(moves) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if moves(character) {
            push_hidden(character, &mut out);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

fn push_hidden(character: char, out: &mut String) {
    let code = u32::from(character);
    let written = if character.is_ascii() { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{{{code:x}}}") };
    written.expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_shown() {
        let text = "a\nb\t\x1b[31m\0\\n\u{85}\u{202e}é\r";
        assert_eq!(escaped(text), "a\\nb\\t\\x1b[31m\\x00\\\\n\\u{85}\\u{202e}é\\r");
        assert_eq!(harmless(text), "a\nb\t\\x1b[31m\\x00\\n\\u{85}\\u{202e}é\\x0d");
        for plain in ["", "grün", "日本 x"] {
            assert!(matches!(escaped(plain), Cow::Borrowed(same) if same == plain));
            assert!(matches!(harmless(plain), Cow::Borrowed(same) if same == plain));
        }
    }
}
