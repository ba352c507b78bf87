//! A model as text. Equal neighbours in the tree, as decoder layers are, stand in one line.

use std::fmt::Write;

use pycandle_build::manifest::{Comparison, Condition, Dim, Dtype, Manifest, Source, Value};
use pycandle_checkpoint::escaped;

use super::Model;
use super::tree::Module;

/// The whole model.
pub fn model(model: &Model<'_>) -> String {
    let manifest = model.manifest;
    let mut text = format!(
        "{} ({}), {}\n",
        escaped(&manifest.name),
        escaped(&manifest.class),
        dtype(manifest.dtype)
    );
    let recorder: Vec<_> = manifest
        .recorder
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    line(&mut text, "recorded by", &recorder.join(", "));
    for symbol in &manifest.symbols {
        let max = symbol.max.map_or(String::new(), |max| format!("={max}"));
        line(
            &mut text,
            "symbol",
            &format!("{} in {}..{max}", symbol.name, symbol.min),
        );
    }
    for condition in &manifest.conditions {
        let at = condition.at.as_deref().map(escaped);
        let at = at.map_or(String::new(), |at| format!(", asked at {at}"));
        let holds = holds(manifest, condition);
        line(&mut text, "condition", &format!("{holds}{at}"));
    }
    for input in &manifest.inputs {
        let value = value(manifest, &manifest.values[input.value.0]);
        line(&mut text, "input", &format!("{}: {value}", input.name));
    }
    for output in &manifest.outputs {
        let value = match output.value {
            Source::Value(id) => value(manifest, &manifest.values[id.0]),
            Source::Param(id) => format!("parameter {}", manifest.params[id.0].name),
            Source::Const(id) => format!("constant {}", manifest.constants[id.0].name),
        };
        line(&mut text, "output", &format!("{}: {value}", output.name));
    }
    for state in &manifest.states {
        let ends = (
            &manifest.inputs[state.input].name,
            &manifest.outputs[state.output].name,
        );
        let state = format!(
            "{}[{}].{}: {} -> {}",
            state.name, state.layer, state.slot, ends.0, ends.1
        );
        line(&mut text, "state", &state);
    }
    text.push_str("\nmodules\n");
    let mut rows = Vec::new();
    if !model.modules.is_empty() {
        tree(&model.modules, 0, String::new(), 1, 1, &mut rows);
    }
    columns(&mut text, &rows);
    let _ = writeln!(
        text,
        "\nops ({} calls of {})",
        manifest.nodes.len(),
        model.ops.len()
    );
    let mut ops: Vec<_> = model.ops.iter().collect();
    ops.sort_by_key(|&(op, times)| (std::cmp::Reverse(*times), *op));
    for (op, times) in ops {
        let _ = writeln!(text, "  {times:>6}  {}", escaped(op));
    }
    match &model.problems {
        None => text.push_str("\nevery op has a lowering\n"),
        Some(report) => {
            let _ = writeln!(text, "\n{report}");
        }
    }
    text
}

fn line(text: &mut String, what: &str, content: &str) {
    let _ = writeln!(text, "  {what:<12} {}", escaped(content));
}

/// Rows of the module at `index`, which stands for `count` equal ones named `name`.
fn tree(
    modules: &[Module<'_>],
    index: usize,
    name: String,
    depth: usize,
    count: usize,
    rows: &mut Vec<[String; 4]>,
) {
    let module = &modules[index];
    let name = if name.is_empty() {
        "(root)".to_owned()
    } else {
        name
    };
    let each = if count > 1 { " each" } else { "" };
    let owned = match module.elements {
        0 => [String::new(), String::new()],
        n => [
            format!("{} parameters{each}", grouped(n)),
            format!("{}{each}", bytes(module.bytes)),
        ],
    };
    let [elements, size] = owned;
    let class = match module.calls {
        0 | 1 => module.class.to_owned(),
        n => format!("{} (called {n} times)", module.class),
    };
    rows.push([
        format!("{}{name}", "  ".repeat(depth)),
        class,
        elements,
        size,
    ]);
    for param in &module.own {
        let name = param
            .name
            .rsplit_once('.')
            .map_or(&*param.name, |(_, name)| name);
        let tied = if param.tied_to.is_some() {
            ", tied"
        } else {
            ""
        };
        let shape = format!("{} {:?}{tied}", dtype(param.dtype), param.shape);
        rows.push([
            format!("{}.{name}", "  ".repeat(depth + 1)),
            shape,
            String::new(),
            String::new(),
        ]);
    }
    let mut children = module.children.iter().copied().peekable();
    while let Some(first) = children.next() {
        let mut last = first;
        let mut count = 1;
        while let Some(next) = children.next_if(|&next| is_next(modules, last, next)) {
            last = next;
            count += 1;
        }
        let name = match count {
            1 => modules[first].name().to_owned(),
            _ => format!("{{{}..{}}}", modules[first].name(), modules[last].name()),
        };
        tree(modules, first, name, depth + 1, count, rows);
    }
}

/// Whether two siblings are consecutive entries of a list, and equal.
fn is_next(modules: &[Module<'_>], a: usize, b: usize) -> bool {
    let numbers = (
        modules[a].name().parse::<usize>(),
        modules[b].name().parse::<usize>(),
    );
    matches!(numbers, (Ok(a), Ok(b)) if a.checked_add(1) == Some(b)) && equal(modules, a, b)
}

fn equal(modules: &[Module<'_>], a: usize, b: usize) -> bool {
    let (a, b) = (&modules[a], &modules[b]);
    let params = |module: &Module<'_>| -> Vec<_> {
        let prefix = module.path.len();
        let own = module.own.iter();
        own.map(|p| {
            (
                p.name[prefix..].to_owned(),
                p.shape.clone(),
                p.dtype,
                p.tied_to,
            )
        })
        .collect()
    };
    a.class == b.class
        && a.calls == b.calls
        && params(a) == params(b)
        && a.children.len() == b.children.len()
        && a.children
            .iter()
            .zip(&b.children)
            .all(|(&x, &y)| modules[x].name() == modules[y].name() && equal(modules, x, y))
}

/// Rows with a first column to the left and the third to the right; what a name could do to a
/// terminal is escaped.
pub fn columns(text: &mut String, rows: &[[String; 4]]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escaped(cell)))
        .collect();
    let width = |i: usize| {
        rows.iter()
            .map(|row| row[i].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (a, b, c) = (width(0), width(1), width(2));
    for [name, class, elements, size] in &rows {
        let _ = writeln!(
            text,
            "{}",
            format!("{name:a$}  {class:b$}  {elements:>c$}  {size}").trim_end()
        );
    }
}

/// `float32 [batch, seq, 64]`.
pub fn value(manifest: &Manifest, value: &Value) -> String {
    format!(
        "{} [{}]",
        dtype(value.dtype),
        shape(manifest, value).join(", ")
    )
}

/// The sizes as text.
pub fn shape(manifest: &Manifest, value: &Value) -> Vec<String> {
    value.shape.iter().map(|dim| size(manifest, dim)).collect()
}

/// What the sizes have to meet beside their ranges, as Rust writes it.
pub fn holds(manifest: &Manifest, condition: &Condition) -> String {
    let comparison = match condition.comparison {
        Comparison::Eq => "==",
        Comparison::Ne => "!=",
        Comparison::Lt => "<",
        Comparison::Le => "<=",
    };
    let side = |dim| size(manifest, dim);
    format!(
        "{} {comparison} {}",
        side(&condition.left),
        side(&condition.right)
    )
}

fn size(manifest: &Manifest, dim: &Dim) -> String {
    let all = |dims: &[Dim], op: &str| {
        let dims: Vec<_> = dims.iter().map(|dim| size(manifest, dim)).collect();
        format!("({})", dims.join(op))
    };
    let call = |name: &str, dims: &[Dim]| format!("{name}{}", all(dims, ", "));
    let pair =
        |a: &Dim, op: &str, b: &Dim| format!("({}{op}{})", size(manifest, a), size(manifest, b));
    match dim {
        Dim::Size(n) => n.to_string(),
        Dim::Sym(id) => manifest.symbols[id.0].name.clone(),
        Dim::Add(dims) => all(dims, " + "),
        Dim::Mul(dims) => all(dims, " * "),
        Dim::Max(dims) => call("max", dims),
        Dim::Min(dims) => call("min", dims),
        Dim::Sub(a, b) => pair(a, " - ", b),
        Dim::FloorDiv(a, b) => pair(a, " / ", b),
        Dim::Mod(a, b) => pair(a, " % ", b),
    }
}

/// The name that PyTorch has for a dtype.
pub fn dtype(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// A number with a comma between thousands.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in decimal units.
pub fn bytes(number: u128) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut size = number as f64;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < units.len() {
        size /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{number} B"),
        _ => format!("{size:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [grouped(7), grouped(1234), grouped(1234567)],
            ["7", "1,234", "1,234,567"]
        );
        assert_eq!(
            [bytes(999), bytes(1500), bytes(70_000_000_000)],
            ["999 B", "1.5 kB", "70.0 GB"]
        );
    }
}
