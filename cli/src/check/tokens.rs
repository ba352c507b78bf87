//! What Rust source says of models: the arguments of the attribute, and those of `Builder`.
//!
//! Source is looked through as tokens, so that it need not compile and comments and texts say
//! nothing. What is no literal cannot be told from source: that is said, never passed over.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use pycandle_build::attribute::{Args, text};
use pycandle_build::{Config, RenameRule, Syntax};

/// A model that source names.
pub enum Named {
    /// The name of its struct where source says it, what is generated, and the checkpoint.
    Model(Option<String>, Box<Config>, Option<PathBuf>),
    /// Why it cannot be checked.
    Unclear(String),
}

/// All models that attributes in the source name; paths in it start in `root`.
pub fn attributes(source: &str, root: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    match source.parse() {
        Ok(tokens) => search(tokens, root, &mut found),
        Err(error) => found.push(no_rust(&error)),
    }
    found
}

/// All models that the source of a build script gives to `Builder`.
pub fn builders(source: &str, root: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    let tokens: TokenStream = match source.parse() {
        Ok(tokens) => tokens,
        Err(error) => return vec![no_rust(&error)],
    };
    let names = Names::of(tokens.clone());
    if names.renamed {
        let text = "gives `pycandle_build` or its `Builder` another name".to_owned();
        found.push(Named::Unclear(text));
    }
    scripts(tokens, root, names.builder, &mut found);
    if found.is_empty() && names.uses {
        let text = "uses `pycandle_build` in another way than `Builder::new()….compile(…)`";
        found.push(Named::Unclear(text.to_owned()));
    }
    found
}

fn no_rust(error: &proc_macro2::LexError) -> Named {
    Named::Unclear(format!("is no Rust that can be read: {error}"))
}

fn search(tokens: TokenStream, root: &Path, found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => match attribute(group) {
                Some(args) => found.push(of_attribute(args, &tokens[i + 1..], root)),
                None => search(group.stream(), root, found),
            },
            TokenTree::Ident(name)
                if name == "pycandle_model" && is_ident(&tokens, i + 1, "as") =>
            {
                let text = "gives `pycandle_model` another name".to_owned();
                found.push(Named::Unclear(text));
            }
            _ => {}
        }
    }
}

/// What stands in the parentheses, if the group is that of the attribute, or of a `cfg_attr` with
/// it: whether that applies here is not asked, the model has to be right where it does.
fn attribute(group: &Group) -> Option<TokenStream> {
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    arguments(&tokens).or_else(|| match &tokens[..] {
        [TokenTree::Ident(name), TokenTree::Group(inner)] if name == "cfg_attr" => {
            let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
            let mut parts = inner.split(|token| is_punct(token, ','));
            parts.find_map(arguments)
        }
        _ => None,
    })
}

/// The arguments of `pycandle_model(…)`, or none of one without parentheses.
fn arguments(tokens: &[TokenTree]) -> Option<TokenStream> {
    match tokens {
        [.., TokenTree::Ident(name), TokenTree::Group(args)] if name == "pycandle_model" => {
            Some(args.stream())
        }
        [.., TokenTree::Ident(name)] if name == "pycandle_model" => Some(TokenStream::new()),
        _ => None,
    }
}

fn of_attribute(args: TokenStream, after: &[TokenTree], root: &Path) -> Named {
    let args = match Args::read(args) {
        Ok(args) => args,
        Err(problem) => return Named::Unclear(format!("`#[pycandle_model(…)]`: {problem}")),
    };
    let after = after.iter().map(ToString::to_string);
    let name = after.skip_while(|token| token != "struct").nth(1);
    let config = Config::new(root.join(args.manifest.value()));
    let config = config.strict(args.strict).fuse(args.fuse);
    let config = args.rules().iter().cloned().fold(config, Config::rename);
    let weights = args
        .weights
        .as_ref()
        .map(|weights| root.join(weights.value()));
    Named::Model(name, Box::new(config), weights)
}

/// What a build script calls things.
#[derive(Default)]
struct Names {
    /// Whether it speaks of `pycandle_build`.
    uses: bool,
    /// Whether `Builder` alone is that of `pycandle_build`.
    builder: bool,
    /// Whether one of the two has another name.
    renamed: bool,
}

impl Names {
    fn of(tokens: TokenStream) -> Self {
        let mut names = Self::default();
        names.visit(tokens);
        names
    }

    fn visit(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (i, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(name) if name == "pycandle_build" => {
                    self.uses = true;
                    self.renamed |= is_ident(&tokens, i + 1, "as");
                    let used = tokens[..i].iter().rev();
                    let mut used = used.take_while(|token| !is_punct(token, ';'));
                    if used.any(|token| matches!(token, TokenTree::Ident(name) if name == "use")) {
                        self.import(&tokens[i + 1..]);
                    }
                }
                TokenTree::Group(group) => self.visit(group.stream()),
                _ => {}
            }
        }
    }

    /// What stands behind `use pycandle_build`.
    fn import(&mut self, after: &[TokenTree]) {
        let end = after.iter().position(|token| is_punct(token, ';'));
        let path = &after[..end.unwrap_or(after.len())];
        for (i, token) in path.iter().enumerate() {
            match token {
                TokenTree::Ident(name) if name == "Builder" => {
                    self.builder = true;
                    self.renamed |= is_ident(path, i + 1, "as");
                }
                TokenTree::Punct(star) if star.as_char() == '*' => self.builder = true,
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.import(&inner);
                }
                _ => {}
            }
        }
    }
}

/// Adds what is made of each `Builder`; one without a path is ours where `imported`.
fn scripts(tokens: TokenStream, root: &Path, imported: bool, found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => scripts(group.stream(), root, imported, found),
            TokenTree::Ident(name) if name == "Builder" => {
                let is_ours = match &tokens[..i] {
                    [.., TokenTree::Ident(of), a, b] if is_punct(a, ':') && is_punct(b, ':') => {
                        of == "pycandle_build"
                    }
                    _ => imported,
                };
                found.extend(
                    is_ours
                        .then(|| of_builder(&tokens[i + 1..], root))
                        .flatten(),
                );
            }
            _ => {}
        }
    }
}

/// The chain of calls behind `Builder`; `None` where none is made.
fn of_builder(after: &[TokenTree], root: &Path) -> Option<Named> {
    let [a, b, TokenTree::Ident(made), TokenTree::Group(_), rest @ ..] = after else {
        return None;
    };
    let is_made = is_punct(a, ':') && is_punct(b, ':') && (made == "new" || made == "default");
    is_made.then(|| of_chain(rest, root).unwrap_or_else(Named::Unclear))
}

/// What the calls behind `Builder::new()` say, or why they do not say it.
fn of_chain(mut rest: &[TokenTree], root: &Path) -> Result<Named, String> {
    let (mut manifest, mut weights, mut name) = (None, None, None);
    let (mut rules, mut strict, mut fuse) = (Vec::new(), false, true);
    let mut compiled = false;
    while let [
        dot,
        TokenTree::Ident(method),
        TokenTree::Group(args),
        behind @ ..,
    ] = rest
        && is_punct(dot, '.')
    {
        rest = behind;
        let args: Vec<TokenTree> = args.stream().into_iter().collect();
        let texts: Option<Vec<String>> = args
            .split(|token| is_punct(token, ','))
            .filter(|arg| !arg.is_empty())
            .map(|arg| text(arg.iter().cloned().collect()))
            .collect();
        let truth = args.first().map(ToString::to_string);
        let truth = truth.and_then(|text| text.parse::<bool>().ok());
        match (&*method.to_string(), texts.as_deref(), truth) {
            ("manifest", Some([path]), _) => manifest = Some(root.join(path)),
            ("weights", Some([path]), _) => weights = Some(root.join(path)),
            ("name", texts, _) => name = texts.and_then(|texts| texts.first().cloned()),
            ("rename", Some([pattern, with]), _) => {
                let rule = RenameRule::new(pattern, with);
                rules.push(rule.map_err(|problem| format!("`Builder::rename`: {problem}"))?);
            }
            ("strict", _, Some(value)) => strict = value,
            ("fuse", _, Some(value)) => fuse = value,
            ("compile", ..) => compiled = true,
            (method, ..) => return Err(format!("what `Builder::{method}` is given is no literal")),
        }
    }
    if !compiled {
        return Err("the calls behind `Builder::new()` do not go on to `.compile(…)`".to_owned());
    }
    let manifest = manifest.ok_or("`Builder::new()` is not followed by `.manifest(…)`")?;
    let config = Config::new(manifest).strict(strict).fuse(fuse);
    let config = rules.into_iter().fold(config, Config::rename);
    let config = config.syntax(Syntax::Builder);
    Ok(Named::Model(name, Box::new(config), weights))
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

fn is_ident(tokens: &[TokenTree], at: usize, name: &str) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Ident(ident)) if ident == name)
}
