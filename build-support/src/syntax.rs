//! How a front end writes what a report proposes.

use pycandle_checkpoint::Rename;

/// Where the arguments of a model stand, and so how a report writes those that would mend it.
///
/// ```
/// use pycandle_build::Syntax;
/// assert_eq!(Syntax::Attribute.rule(r"^a\.", ""), r#"("^a\\.", "")"#);
/// assert_eq!(Syntax::Builder.rule(r"^a\.", ""), r#".rename("^a\\.", "")"#);
/// assert_eq!(Syntax::Options.rule(r"^a\.", ""), r"--rename '^a\.='");
/// assert_eq!(Syntax::Attribute.renames(&[]), "rename = []"); // those of a report, in order
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Syntax {
    /// The parentheses of `#[pycandle_model(…)]`.
    #[default]
    Attribute,
    /// Calls of [`Builder`](crate::Builder).
    Builder,
    /// Options of `cargo pycandle`.
    Options,
}

impl Syntax {
    /// A rename rule.
    pub fn rule(self, pattern: &str, replacement: &str) -> String {
        match self {
            Self::Attribute => format!("({pattern:?}, {replacement:?})"),
            Self::Builder => format!(".rename({pattern:?}, {replacement:?})"),
            Self::Options => {
                // The first `=` of the option ends the pattern.
                let pattern = pattern.replace('=', r"\x3D");
                let quoted = format!("{pattern}={replacement}").replace('\'', r"'\''");
                format!("--rename '{quoted}'")
            }
        }
    }

    /// Rename rules in order, with the name of the argument.
    pub fn renames(self, renames: &[Rename]) -> String {
        let rules = renames.iter();
        let rules = rules.map(|rule| self.rule(&rule.pattern, &rule.replacement));
        let rules: Vec<_> = rules.collect();
        match self {
            Self::Attribute => format!("rename = [{}]", rules.join(", ")),
            Self::Builder => rules.concat(),
            Self::Options => rules.join(" "),
        }
    }

    /// The name of an argument.
    pub(crate) fn argument(self, name: &str) -> String {
        match self {
            Self::Attribute => format!("`{name}`"),
            Self::Builder => format!("`Builder::{name}`"),
            Self::Options => format!("--{name}"),
        }
    }
}
