//! Formatting: tokens as source that a person reads.
//!
//! In: the tokens of a model. Out: source in rustfmt's style with blank lines between items.

use proc_macro2::TokenStream;

/// Formats the items of a file; says why when they are not Rust, which is a bug of this crate.
pub fn format(tokens: &TokenStream) -> Result<String, syn::Error> {
    let file = syn::parse2::<syn::File>(tokens.clone())?;
    let text = join(&pack(&prettyplease::unparse(&file)));
    let mut out = String::with_capacity(text.len() + 256);
    let mut previous = "";
    for line in text.lines() {
        let (indent, code) = (line.len() - line.trim_start().len(), line.trim_start());
        let after = previous.trim_start();
        let item = [
            "///",
            "#[",
            "impl ",
            "fn ",
            "pub fn ",
            "struct ",
            "pub struct ",
        ];
        let begins = item.iter().any(|p| code.starts_with(p)) && indent <= 4;
        let attached = after.starts_with("///") || after.starts_with("#[");
        if begins && !attached && (after.ends_with('}') || after.ends_with(';')) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        previous = line;
    }
    Ok(out)
}

/// Widest line, and the widest arguments of a call on one line: rustfmt's defaults.
const WIDTH: usize = 100;
const CALL_WIDTH: usize = 60;

/// Puts arguments and parameters on one line where rustfmt would: prettyplease fits fewer columns.
fn join(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    for line in text.lines() {
        match line
            .trim_start()
            .starts_with(')')
            .then(|| joined(&out, line))
        {
            Some(Some((open, whole))) => {
                out.truncate(open);
                out.push(whole);
            }
            _ => out.push(line.to_owned()),
        }
    }
    out.join("\n")
}

/// The call or signature that `close` ends, on one line, and the line that it begins on.
fn joined(lines: &[String], close: &str) -> Option<(usize, String)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let inside = |line: &&String| indent(line) == indent(close) + 4 && line.ends_with(',');
    let count = lines.iter().rev().take_while(inside).count();
    let open = lines.len().checked_sub(count + 1)?;
    let (callee, first) = (lines[open].strip_suffix('(')?, lines[open].trim_start());
    let is_call = callee.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let args: Vec<&str> = lines[open + 1..].iter().map(|l| l.trim_start()).collect();
    let args = args.join(" ");
    let args = args.strip_suffix(',')?;
    let whole = format!("{callee}({args}{}", close.trim_start());
    let signature = first.starts_with("fn ") || first.starts_with("pub fn ");
    // A text that fits on no line is as good on this one.
    let text = count == 1 && args.starts_with("r#") && args.len() > WIDTH;
    let fits = whole.len() <= WIDTH && (signature || args.len() <= CALL_WIDTH);
    (is_call && (fits || text)).then_some((open, whole))
}

/// Puts the numbers of a long array next to each other, where prettyplease gives each a line.
fn pack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut width, mut inside) = (None, false);
    for line in text.lines() {
        let number = line.trim_start();
        match width {
            Some(used) if is_number(number) && used + 1 + number.len() <= WIDTH => {
                out.push(' ');
                out.push_str(number);
                width = Some(used + 1 + number.len());
                continue;
            }
            _ => {}
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
        // Arguments of a call stay on lines of their own, as rustfmt leaves them.
        inside = line.ends_with('[') || (inside && is_number(number));
        width = (inside && is_number(number)).then_some(line.len());
    }
    out
}

/// Whether a line without its indent is a numeric literal and a comma.
fn is_number(line: &str) -> bool {
    line.strip_suffix(',').is_some_and(|literal| {
        literal.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && literal
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-+._".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::{join, pack};

    #[test]
    fn short_calls_and_signatures_stand_on_one_line() {
        let text = "let x = f(\n    g(\n        a,\n        b,\n    )?,\n    1,\n)?;";
        assert_eq!(join(text), "let x = f(g(a, b)?, 1)?;");
        let tuple = "let x = (\n    a,\n);";
        assert_eq!(join(tuple), tuple);
        let args = "    abcdefghijklmnop: Tensor,\n".repeat(3);
        let signature = format!("fn f(\n{args}) -> X {{");
        assert_eq!(join(&signature).lines().count(), 1);
        let call = signature.replace("fn f", "f");
        assert_eq!(join(&call), call);
    }

    #[test]
    fn numbers_share_lines_and_nothing_else_does() {
        let lines = "&[\n    1.0,\n    -2e-5,\n    x,\n],\nf(\n    8192,\n    1e-5,\n)";
        let packed = "&[\n    1.0, -2e-5,\n    x,\n],\nf(\n    8192,\n    1e-5,\n)";
        assert_eq!(pack(lines), packed);
        let many = format!("[\n{}]", "    12345678,\n".repeat(20));
        let widths: Vec<usize> = pack(&many).lines().map(str::len).collect();
        assert_eq!(widths, [1, 93, 93, 23, 1]);
    }
}
