//! The order of a tensor's rows in the file.

use std::borrow::Cow;

use pycandle_checkpoint::Rows;

use crate::{Error, Result};

/// The bytes in the order of the trace. Rows are moved as they are, whatever their elements.
pub(super) fn in_order<'a>(bytes: &'a [u8], rows: Rows, dims: &[usize]) -> Result<Cow<'a, [u8]>> {
    let heads = match rows {
        Rows::AsStored => return Ok(Cow::Borrowed(bytes)),
        Rows::Interleaved { heads } => heads,
        _ => return Err(Error::msg(format!("the row order {rows:?} is not known"))),
    };
    let count = dims.first().copied().unwrap_or_default();
    if bytes.is_empty() {
        return Ok(Cow::Borrowed(bytes));
    }
    if heads == 0 || !count.is_multiple_of(2 * heads) || !bytes.len().is_multiple_of(count) {
        let text = format!("{count} rows are not those of {heads} heads with pairs of rows");
        return Err(Error::msg(text));
    }
    let (row, half) = (bytes.len() / count, count / heads / 2);
    let mut ordered = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(2 * half * row) {
        for part in 0..2 {
            let pairs = head.chunks_exact(2 * row);
            ordered.extend(pairs.flat_map(|pair| &pair[part * row..(part + 1) * row]));
        }
    }
    Ok(Cow::Owned(ordered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves() {
        let interleaved = Rows::Interleaved { heads: 2 };
        // Two heads of six rows of two bytes; a row is named by head and place in the trace.
        let row = |n: u8| [n, n + 100];
        let stored = [0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15].map(row).concat();
        let traced = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15].map(row).concat();
        let ordered = in_order(&stored, interleaved, &[12, 2]).expect("two heads");
        assert_eq!(*ordered, *traced);
        // A bias has rows of one element.
        let ordered = in_order(&[0, 2, 1, 3], Rows::Interleaved { heads: 1 }, &[4]);
        assert_eq!(*ordered.expect("one head"), [0, 1, 2, 3]);
        assert_eq!(
            *in_order(&[1, 2], Rows::AsStored, &[2]).expect("as it is"),
            [1, 2]
        );
        assert!(
            in_order(&[], interleaved, &[0, 2])
                .expect("nothing")
                .is_empty()
        );
    }

    #[test]
    fn rows_that_are_no_heads_are_refused() {
        for (heads, rows) in [(0, 4), (3, 4), (2, 6)] {
            let bytes = vec![0; rows];
            let error = in_order(&bytes, Rows::Interleaved { heads }, &[rows]);
            let text = error.expect_err("no heads").to_string();
            assert!(text.contains(&format!("{rows} rows are not those of {heads} heads")));
        }
    }
}
