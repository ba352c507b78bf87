//! What Rust source says of models: the arguments of the attribute, and those of `Builder`.
//!
//! Source is looked through as tokens, so that it need not compile and comments and texts say
//! nothing. What is no literal cannot be told from source.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use pycandle_build::attribute::{Args, text};
use pycandle_build::{Config, RenameRule};

/// A model that source names.
pub enum Named {
    /// The name of its struct where source says it, what is generated, and the checkpoint.
    Model(Option<String>, Box<Config>, Option<PathBuf>),
    /// Why it cannot be checked.
    Unclear(String),
}

/// All models that the source names; paths in it start in `root`.
pub fn models(source: &str, root: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    if let Ok(tokens) = source.parse::<TokenStream>() {
        search(tokens, root, &mut found);
    }
    found
}

fn search(tokens: TokenStream, root: &Path, found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => match attribute(group) {
                Some(args) => found.push(of_attribute(args, &tokens[i + 1..], root)),
                None => search(group.stream(), root, found),
            },
            TokenTree::Ident(name) if name == "Builder" => {
                found.extend(of_builder(&tokens[i + 1..], root));
            }
            _ => {}
        }
    }
}

/// What stands in the parentheses, if the group is that of the attribute.
fn attribute(group: &Group) -> Option<TokenStream> {
    let tokens: Vec<TokenTree> = match group.delimiter() {
        Delimiter::Bracket => group.stream().into_iter().collect(),
        _ => return None,
    };
    match &tokens[..] {
        [.., TokenTree::Ident(name), TokenTree::Group(args)] if name == "pycandle_model" => {
            Some(args.stream())
        }
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

/// The chain of calls behind `Builder`, if it begins with `::new()` and names a manifest.
fn of_builder(after: &[TokenTree], root: &Path) -> Option<Named> {
    let mut calls = after.split(|token| is_punct(token, '.'));
    let start: Vec<_> = calls.next()?.iter().map(ToString::to_string).collect();
    (start == [":", ":", "new", "()"]).then_some(())?;
    let (mut manifest, mut weights, mut name) = (None, None, None);
    let (mut rules, mut strict, mut fuse) = (Vec::new(), false, true);
    for call in calls {
        // What follows the parentheses of the last call is another statement.
        let [TokenTree::Ident(method), TokenTree::Group(args), rest @ ..] = call else {
            break;
        };
        let args: Vec<TokenTree> = args.stream().into_iter().collect();
        let texts: Option<Vec<String>> = args
            .split(|token| is_punct(token, ','))
            .filter(|arg| !arg.is_empty())
            .map(|arg| text(arg.iter().cloned().collect()))
            .collect();
        let truth = args.first().map(ToString::to_string);
        let truth = truth.and_then(|text| text.parse::<bool>().ok());
        let unclear = || {
            let text = format!("what `Builder::{method}` is given is no literal");
            Some(Named::Unclear(text))
        };
        match (&*method.to_string(), texts.as_deref(), truth) {
            ("manifest", Some([path]), _) => manifest = Some(root.join(path)),
            ("weights", Some([path]), _) => weights = Some(root.join(path)),
            ("name", Some([text]), _) => name = Some(text.clone()),
            ("rename", Some([pattern, with]), _) => match RenameRule::new(pattern, with) {
                Ok(rule) => rules.push(rule),
                Err(problem) => {
                    return Some(Named::Unclear(format!("`Builder::rename`: {problem}")));
                }
            },
            ("strict", _, Some(value)) => strict = value,
            ("fuse", _, Some(value)) => fuse = value,
            ("manifest" | "weights" | "rename" | "strict", ..) => return unclear(),
            _ => {}
        }
        if !rest.is_empty() {
            break;
        }
    }
    let Some(manifest) = manifest else {
        return Some(Named::Unclear(
            "`Builder::new()` is not followed by `.manifest(…)`".into(),
        ));
    };
    let config = Config::new(manifest).strict(strict).fuse(fuse);
    let config = rules.into_iter().fold(config, Config::rename);
    Some(Named::Model(name, Box::new(config), weights))
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}
