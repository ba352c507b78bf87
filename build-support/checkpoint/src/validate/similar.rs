//! Whether one name may be another way to write a second one.

/// Longer words are compared by nothing: no key that a person typed is.
const MAX_LENGTH: usize = 64;

/// Whether these parts of two dotted names may stand for one another: each segment of the one that
/// has fewer is near a segment of the other, in order.
pub(super) fn is_alike(name: &str, other: &str) -> bool {
    let split = |name: &str| name.split('.').count();
    let (short, long) = match split(name) <= split(other) {
        true => (name, other),
        false => (other, name),
    };
    let mut long = long.split('.');
    short.split('.').all(|a| long.any(|b| is_near(a, b)))
}

/// Whether two segments are the same words, but for slips: a number is never another one.
fn is_near(a: &str, b: &str) -> bool {
    if a.len().max(b.len()) > MAX_LENGTH {
        return a == b;
    }
    let (a, b) = (words(a), words(b));
    if a.concat() == b.concat() {
        return true;
    }
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || is_slip(a, b))
}

/// The words and numbers of a segment, in small letters: `LayerNorm_1` is `layer`, `norm`, `1`.
fn words(segment: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = '_';
    for c in segment.chars() {
        let starts = !last.is_alphanumeric()
            || last.is_ascii_digit() != c.is_ascii_digit()
            || last.is_lowercase() && c.is_uppercase();
        last = c;
        if !c.is_alphanumeric() {
            continue;
        }
        if starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// Whether one word is the other with a letter or two wrong, or two letters swapped: a third of it at
/// most, two of a long one, and never the first alone, by which most words of one kind differ
/// (`encoder`, `decoder`).
fn is_slip(a: &str, b: &str) -> bool {
    let [first, other] = [a, b].map(|word| {
        let mut letters = word.chars();
        [letters.next(), letters.next()]
    });
    let [length, short] = [a, b].map(|word| word.chars().count());
    let (length, short) = (length.max(short), length.min(short));
    let most = match length {
        0..=2 => 0,
        3..=8 => 1,
        _ => 2,
    };
    let is_number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let is_swapped = first == [other[1], other[0]];
    !is_number(a)
        && !is_number(b)
        && (first[0] == other[0] || is_swapped)
        && length - short <= most
        && strsim::osa_distance(a, b) <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_slip_but_no_stranger() {
        for (a, b, near) in [
            ("layers", "layer", true),
            ("q_proj", "q_prj", true),
            ("lm_head", "lm_heads", true),
            ("q_proj", "q_projé", true),
            ("weight", "weíght", true),
            ("LayerNorm", "layer_norm", true),
            ("down_proj", "down_porj", true),
            ("query", "uqery", true),
            ("layernorm", "layer_norm", true),
            ("ln_1", "ln1", true),
            ("encoder.layer", "layers", true),
            ("lm_head", "value_head", false),
            ("q_proj", "k_proj", false),
            ("gate_proj", "self_attn.qkv_proj", false),
            ("pooler", "cls.predictions.transform", false),
            ("model", "projector", false),
            ("encoder", "decoder", false),
            ("norm1", "norm2", false),
            ("fc1", "fc11", false),
            ("w1", "w3", false),
            ("bias", "weight", false),
            ("up", "down", false),
        ] {
            assert_eq!(is_alike(a, b), near, "{a} {b}");
            assert_eq!(is_alike(b, a), near, "{b} {a}");
        }
    }
}
