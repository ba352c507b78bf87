//! Names and texts of a file as a message shows them.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Longest text that is shown whole, in bytes, and how many of a longer one at its start and end.
const LONGEST: usize = 8192;
const ENDS: usize = 2048;

/// The text with every character escaped that a terminal obeys or does not show: controls, line
/// breaks, and what changes the direction of text or takes no room. Of a text that fills pages, start
/// and end, and how long it is.
///
/// A name in a file is anyone's text. Shown as it is, it could forge lines of a report, hide its
/// own letters, or move the cursor.
///
/// ```
/// use pycandle_checkpoint::escaped;
/// assert_eq!(escaped("a.b\n\u{1b}[2J"), r"a.b\n\u{1b}[2J");
/// assert_eq!(escaped("größe"), "größe");
/// assert!(escaped(&"a".repeat(10_000)).contains("a … (10000 bytes) … a"));
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.len() > LONGEST {
        let start = (0..=ENDS).rev().find(|&at| text.is_char_boundary(at));
        let end = (text.len() - ENDS..).find(|&at| text.is_char_boundary(at));
        let (start, end) = (start.unwrap_or(0), end.unwrap_or(text.len()));
        let ends = [&text[..start], &text[end..]].map(escaped);
        let [start, end] = ends.each_ref();
        return Cow::Owned(format!("{start} … ({} bytes) … {end}", text.len()));
    }
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_hidden(c) {
            // A `String` takes every text.
            true => drop(write!(shown, "{}", c.escape_default())),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A path as a shell takes it, with `/` on every system.
///
/// ```
/// use pycandle_checkpoint::quoted;
/// assert_eq!(quoted("weights/a.bin".as_ref()), "weights/a.bin");
/// assert_eq!(quoted("my model's.bin".as_ref()), r"'my model'\''s.bin'");
/// ```
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string().replace('\\', "/");
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// Controls (Unicode's Cc), line and paragraph separators, and format characters (Cf) that names
/// have no use for.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_pages_is_its_ends() {
        let text = format!("a{}\u{202e}z", "ä".repeat(5000));
        let shown = escaped(&text);
        assert!(shown.starts_with("aä") && shown.ends_with(r"ä\u{202e}z"));
        assert!(shown.contains("ä … (10005 bytes) … ä") && shown.len() < LONGEST);
    }

    #[test]
    fn only_what_shows_is_shown_as_it_is() {
        let hidden = "\0\t\n\r\x1b\x7f\u{85}\u{9b}\u{200e}\u{200d}\u{2028}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}";
        for hidden in hidden.chars() {
            let shown = escaped(&format!("a{hidden}b")).into_owned();
            assert_eq!(shown, format!("a{}b", hidden.escape_default()));
            assert!(shown.is_ascii());
        }
        for shown in ["", "a.0.weight", "a\\b `\"'", "ä名前🦀", "e\u{301}"] {
            assert!(matches!(escaped(shown), Cow::Borrowed(text) if text == shown));
        }
    }
}
