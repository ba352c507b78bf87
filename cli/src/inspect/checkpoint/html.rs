//! A checkpoint as one page that needs nothing else: no network, no other file.
//!
//! Names come from files that anybody can have written. Text is escaped, data is JSON without a `<`
//! that the script puts into the page as text only, and the page's policy lets nothing run but this
//! script, by its hash.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::text::{bytes, grouped as digits};
use super::tree::{self, Node};
use super::{Entry, Status, Sum, View};
use crate::outcome;

/// What tells a page of this command from another file.
pub const MARK: &str = "<meta name=\"generator\" content=\"cargo pycandle inspect\">";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("treemap.js"), include_str!("page.js"));
/// Trees of more nodes have one for equal siblings.
const MOST_NODES: usize = 40_000;
/// What is left out of a tree that is larger even so: children of a module, and levels.
const CUTS: [(usize, usize); 4] = [(1000, 32), (200, 16), (40, 8), (10, 4)];

/// The page; `model` is the name and class of the model beside the checkpoint.
pub fn page(model: Option<(&str, &str)>, view: &View<'_>) -> String {
    let title = match model {
        Some((name, _)) => name.to_owned(),
        None => view
            .place
            .rsplit('/')
            .find(|part| !part.is_empty())
            .unwrap_or(&view.place)
            .to_owned(),
    };
    let mut html = String::new();
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{MARK}\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} · checkpoint</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        style = source(STYLE),
        script = source(SCRIPT),
        title = escaped(&title),
    );
    head(&mut html, model, &title, view);
    html.push_str("<main>\n");
    cards(&mut html, view);
    verdict(&mut html, view);
    tables(&mut html, view);
    html.push_str(BODY);
    let data = data(&title, view).to_string();
    let _ = write!(
        html,
        "</main>\n<footer>Sizes are decimal: 1 MB is 1,000,000 bytes. Written by cargo pycandle \
         inspect.</footer>\n<script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        inert(&data)
    );
    html
}

const BODY: &str = r#"<noscript><section>The treemap and the tree of modules are drawn by a script in this page.</section></noscript>
<section aria-labelledby="h-map">
<div class="tools"><h2 id="h-map">Where the bytes are</h2><nav class="crumbs grow" id="crumbs" aria-label="Zoom of the treemap"></nav>
<label>Colour by <select id="colour"><option value="module">module</option><option value="format">format</option><option value="file">file</option><option value="need">need</option></select></label></div>
<div id="map" role="img" aria-label="Treemap of the bytes of every module; the tree of modules below says the same in words"><div id="tip" hidden></div></div>
<ul class="legend" id="legend" aria-label="Colours"></ul>
<h3 class="crumbs"><span class="soft">Selected: </span><span id="picked-name"></span></h3>
<dl class="picked-facts" id="picked"></dl>
</section>
<section aria-labelledby="h-tree">
<div class="tools"><h2 id="h-tree">Modules</h2><input id="filter" type="search" placeholder="Find a name" aria-label="Find a name"><span class="soft" id="found" role="status"></span></div>
<ul class="tree" id="tree" role="tree" aria-labelledby="h-tree"></ul>
<ul class="tree crumbs" id="results" aria-label="Names found" hidden></ul>
</section>
"#;

fn head(html: &mut String, model: Option<(&str, &str)>, title: &str, view: &View<'_>) {
    let class = model.map_or(String::new(), |(_, class)| format!(" ({})", escaped(class)));
    let from = match (&view.lock, view.from_lock) {
        (_, true) => ", from its lock; the weights are absent",
        (Some(_), false) => ", as its lock says",
        (None, false) => "",
    };
    let _ = write!(
        html,
        "<header>\n<h1>{}{class}</h1>\n<p class=\"place\"><code>{}</code>{from}</p>\n</header>\n",
        escaped(title),
        escaped(&view.place)
    );
}

fn cards(html: &mut String, view: &View<'_>) {
    html.push_str("<div class=\"cards\">\n");
    let mut card = |class: &str, number: String, what: &str| {
        let _ = writeln!(
            html,
            "<div class=\"card {class}\"><b>{number}</b><span>{what}</span></div>"
        );
    };
    let total = view.total();
    card("", bytes(total.bytes.into()), "of tensors");
    card(
        "",
        digits(total.tensors.into()),
        if total.tensors == 1 {
            "tensor"
        } else {
            "tensors"
        },
    );
    if !view.from_lock {
        let files = view.files.len();
        card(
            "",
            digits(files as u128),
            if files == 1 { "file" } else { "files" },
        );
    }
    if view.has_model {
        let kinds = [
            (Status::Needed, "needed"),
            (Status::Tied, "tied"),
            (Status::Missing, "missing"),
            (Status::Unneeded, "not needed"),
        ];
        for (status, what) in kinds {
            let of = view.sum(status);
            let class = if of.tensors > 0 { status.name() } else { "" };
            card(class, digits(of.tensors.into()), what);
        }
    }
    html.push_str("</div>\n");
}

fn verdict(html: &mut String, view: &View<'_>) {
    let _ = match (view.has_model, view.mismatch) {
        (false, _) => Ok(()),
        (true, None) => writeln!(
            html,
            "<section class=\"verdict\"><p>The checkpoint has what the model needs.</p></section>"
        ),
        (true, Some(mismatch)) => writeln!(
            html,
            "<section class=\"verdict bad\"><p>The checkpoint does not fit.</p><pre>{}</pre></section>",
            escaped(&outcome::report(mismatch))
        ),
    };
}

fn tables(html: &mut String, view: &View<'_>) {
    let total = view.total();
    html.push_str("<div class=\"pair\">\n");
    let formats = view.formats().into_iter();
    table(
        html,
        "Formats",
        "format",
        formats.map(|(dtype, of)| (dtype.to_string(), of)),
        total,
    );
    if !view.from_lock {
        let many = view.files.len() > 1;
        let files = view.files.iter().enumerate().map(|(i, file)| {
            let of = Sum {
                tensors: file.tensors,
                bytes: file.tensor_bytes,
            };
            let number = if many {
                format!("{}  ", i + 1)
            } else {
                String::new()
            };
            (number + &file.name, of)
        });
        table(html, "Files", "file", files, total);
    }
    html.push_str("</div>\n");
}

fn table(
    html: &mut String,
    title: &str,
    column: &str,
    rows: impl Iterator<Item = (String, Sum)>,
    total: Sum,
) {
    let _ = writeln!(
        html,
        "<section><h2>{title}</h2><div class=\"scroll\"><table><thead><tr><th scope=\"col\">{column}</th>\
         <th scope=\"col\" class=\"n\">tensors</th><th scope=\"col\" class=\"n\">bytes</th>\
         <th scope=\"col\"><span class=\"n\">share</span></th></tr></thead><tbody>"
    );
    for (name, of) in rows {
        let percent = of.bytes as f64 / total.bytes.max(1) as f64 * 100.0;
        let _ = writeln!(
            html,
            "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td><svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{percent:.1} %\"><rect width=\"{percent:.2}\" height=\"8\"/></svg></td></tr>",
            escaped(&name),
            digits(of.tensors.into()),
            bytes(of.bytes.into()),
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

/// What the script draws.
fn data(title: &str, view: &View<'_>) -> Value {
    let entries = &view.entries;
    let mut root = tree::tree(entries);
    if root.len() > MOST_NODES {
        root = tree::grouped(root, entries);
    }
    for (children, depth) in CUTS {
        if root.len() <= MOST_NODES {
            break;
        }
        root.cut(children, depth);
    }
    let mut formats: Vec<_> = entries.iter().map(|entry| entry.dtype).collect();
    formats.sort();
    formats.dedup();
    let names = |entry: &Entry<'_>| formats.binary_search(&entry.dtype).unwrap_or(0);
    let there = Status::ALL.map(|status| !matches!(status, Status::Missing | Status::Tied));
    json!({
        "title": title,
        "model": view.has_model,
        "files": view.files.iter().map(|file| &file.name).collect::<Vec<_>>(),
        "formats": formats.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "statuses": Status::ALL.map(Status::name),
        "there": there,
        "root": node(&root, entries, &names, true),
    })
}

/// A node; `alone` where none above it stands for several.
fn node(
    of: &Node,
    entries: &[Entry<'_>],
    format: &dyn Fn(&Entry<'_>) -> usize,
    alone: bool,
) -> Value {
    let alone = alone && of.count == 1;
    let mut value = Map::new();
    let mut set = |key: &str, of: Value| value.insert(key.to_owned(), of);
    set("n", of.name.as_str().into());
    if of.count > 1 {
        set("m", of.count.into());
    }
    match of.entry.map(|id| &entries[id]) {
        Some(entry) => {
            let status = Status::ALL
                .iter()
                .position(|status| *status == entry.status);
            set("t", status.into());
            set("d", format(entry).into());
            set("s", entry.shape.as_ref().into());
            if entry.bytes > 0 {
                set("b", entry.bytes.into());
            }
            if let Some(key) = entry.key {
                set("k", key.into());
            }
            match (&entry.place, of.files.len()) {
                (Some((file, range)), 1) => {
                    set("f", (*file).into());
                    // One of several equal ones is not where the others are.
                    if alone {
                        set("o", vec![range.start, range.end].into());
                    }
                }
                (_, 0) => {}
                _ => {
                    set("fs", of.files.iter().copied().collect());
                }
            }
        }
        None if of.children.is_empty() => {
            set("x", vec![of.sum.tensors, of.sum.bytes].into());
            set("fs", of.files.iter().copied().collect());
        }
        None => {}
    }
    if !of.children.is_empty() {
        let children = of
            .children
            .iter()
            .map(|child| node(child, entries, format, alone));
        set("c", children.collect());
    }
    Value::Object(value)
}

/// Text that means nothing to HTML, in an element or in quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No control character has a place in a page, and some reorder what is around them.
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// JSON that ends no script element: in it these characters occur in texts only.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// A source of the content security policy: what has this hash may be used.
fn source(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("sha256-");
    for bytes in Sha256::digest(text.as_bytes()).chunks(3) {
        let at = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i > bytes.len() { '=' } else { digit.into() });
        }
    }
    out
}
