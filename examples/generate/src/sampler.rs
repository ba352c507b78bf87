//! Logits to a token.

use pycandle::{Error, Result};

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens can be chosen; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability can be chosen; 1 for all.
    pub top_p: f64,
    /// The same seed gives the same tokens.
    pub seed: u64,
}

impl Default for Settings {
    /// The likeliest token, always.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
        }
    }
}

/// Chooses tokens; the same settings and logits give the same tokens on every machine.
///
/// ```
/// use generate::{Sampler, Settings};
/// # fn main() -> pycandle::Result<()> {
/// let mut greedy = Sampler::new(Settings::default())?;
/// assert_eq!(greedy.choose(&[0.1, 2.0, -1.0])?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Settings,
    state: u64,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// When the temperature is negative, or `top_p` is not above 0 and at most 1.
    pub fn new(settings: Settings) -> Result<Self> {
        let Settings {
            temperature, top_p, ..
        } = settings;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Error::msg(format!(
                "temperature is {temperature}, expected 0 or more"
            )));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::msg(format!(
                "top-p is {top_p}, expected more than 0 and at most 1"
            )));
        }
        let state = settings.seed;
        Ok(Self { settings, state })
    }

    /// The next token for the logits of one position, `[vocabulary]`.
    ///
    /// # Errors
    /// When there are no logits, or none of them is a number.
    pub fn choose(&mut self, logits: &[f32]) -> Result<i64> {
        let mut tokens: Vec<(usize, f64)> = logits
            .iter()
            .map(|&logit| f64::from(logit))
            .enumerate()
            .filter(|(_, logit)| !logit.is_nan())
            .collect();
        // Likeliest first; of equal ones the smaller id, as PyTorch's argmax.
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let Some(&(likeliest, top)) = tokens.first() else {
            return Err(Error::msg("the model gave no logits that are numbers"));
        };
        if self.settings.temperature == 0.0 {
            return Ok(likeliest as i64);
        }
        if self.settings.top_k > 0 {
            tokens.truncate(self.settings.top_k);
        }
        for (_, logit) in &mut tokens {
            *logit = ((*logit - top) / self.settings.temperature).exp();
        }
        self.keep_top_p(&mut tokens);
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        for &(token, weight) in &tokens {
            left -= weight;
            if left < 0.0 {
                return Ok(token as i64);
            }
        }
        // Rounding can leave a remainder after the last.
        Ok(tokens.last().map_or(likeliest, |&(token, _)| token) as i64)
    }

    /// Drops the tail: the shortest head that has `top_p` of the weight stays.
    fn keep_top_p(&self, tokens: &mut Vec<(usize, f64)>) {
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let before = |&(_, weight): &(usize, f64)| {
            let inside = sum < self.settings.top_p * total;
            sum += weight;
            inside
        };
        let kept = tokens.iter().copied().take_while(before).count();
        tokens.truncate(kept.max(1));
    }

    /// A number in [0, 1): SplitMix64 (Steele, Lea and Flood, 2014), the upper 53 bits.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose probabilities are 1/2, 1/4, 1/8, 1/8 at temperature 1.
    fn logits() -> [f32; 4] {
        [0.125f32.ln(), 0.5f32.ln(), 0.125f32.ln(), 0.25f32.ln()]
    }

    fn counts(settings: Settings, draws: usize) -> Result<[usize; 4]> {
        let mut sampler = Sampler::new(settings)?;
        let mut counts = [0; 4];
        for _ in 0..draws {
            counts[sampler.choose(&logits())? as usize] += 1;
        }
        Ok(counts)
    }

    #[test]
    fn draws_follow_the_probabilities() -> Result<()> {
        let settings = Settings {
            temperature: 1.0,
            ..Settings::default()
        };
        let [a, b, c, d] = counts(settings, 8000)?;
        for (count, expected) in [(a, 1000), (b, 4000), (c, 1000), (d, 2000)] {
            // Five standard deviations of a binomial count are at most 224.
            assert!(count.abs_diff(expected) < 224, "{count} of {expected}");
        }
        Ok(())
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() -> Result<()> {
        let settings = Settings {
            temperature: 1.0,
            top_k: 2,
            ..Settings::default()
        };
        let [a, b, c, d] = counts(settings, 500)?;
        assert!((a, c) == (0, 0) && b > d && d > 0);
        let settings = Settings {
            temperature: 1.0,
            top_p: 0.5,
            ..Settings::default()
        };
        assert_eq!(counts(settings, 50)?, [0, 50, 0, 0]);
        Ok(())
    }

    #[test]
    fn a_seed_repeats_and_another_differs() -> Result<()> {
        let run = |seed| -> Result<Vec<i64>> {
            let mut sampler = Sampler::new(Settings {
                temperature: 1.0,
                seed,
                ..Settings::default()
            })?;
            (0..64).map(|_| sampler.choose(&logits())).collect()
        };
        assert_eq!(run(7)?, run(7)?);
        assert_ne!(run(7)?, run(8)?);
        Ok(())
    }

    #[test]
    fn settings_and_logits_that_make_no_sense_are_errors() {
        let settings = |temperature, top_p| Settings {
            temperature,
            top_p,
            ..Settings::default()
        };
        assert!(Sampler::new(settings(-1.0, 1.0)).is_err());
        assert!(Sampler::new(settings(f64::NAN, 1.0)).is_err());
        assert!(Sampler::new(settings(1.0, 0.0)).is_err());
        let mut sampler = Sampler::new(Settings::default()).expect("the default is valid");
        assert!(sampler.choose(&[]).is_err());
        assert!(sampler.choose(&[f32::NAN]).is_err());
    }
}
