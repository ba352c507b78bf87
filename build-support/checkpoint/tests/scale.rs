//! Validation of very many tensors takes memory and allocations in proportion to their number, in
//! whichever way the checkpoint does not fit: nothing compares every tensor with every other.

use pycandle_checkpoint::{Checkpoint, Dtype, Expected, Need, Snapshot, validate};

const PARTS: [(&str, Dtype, usize); 3] = [
    ("weight", Dtype::U8, 64),
    ("weight.absmax", Dtype::F32, 2),
    ("weight.quant_map", Dtype::F32, 16),
];

/// Names of the parts of every matrix of so many experts in each of 8 layers.
fn names(experts: usize) -> Vec<(String, Dtype, usize)> {
    let mut names = Vec::new();
    for layer in 0..8 {
        for expert in 0..experts {
            for matrix in ["gate_proj", "up_proj", "down_proj"] {
                let stem = format!("model.layers.{layer}.mlp.experts.{expert}.{matrix}");
                let part = |(part, dtype, size)| (format!("{stem}.{part}"), dtype, size);
                names.extend(PARTS.map(part));
            }
        }
    }
    names
}

/// A checkpoint with every name changed so; those that become nothing are left out.
fn checkpoint(names: &[(String, Dtype, usize)], change: fn(&str) -> String) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    for (name, dtype, size) in names {
        let name = change(name);
        if !name.is_empty() {
            snapshot
                .tensor(&name, *dtype, &[*size])
                .expect("a new name");
        }
    }
    snapshot.into_checkpoint("m".as_ref(), "m".as_ref())
}

/// Allocations, and the most bytes beyond what was there, of one validation.
fn cost(experts: usize, change: fn(&str) -> String) -> (u64, u64, u64) {
    let names = names(experts);
    let needs = names.iter().map(|(name, dtype, size)| Need {
        name: name.into(),
        shape: std::slice::from_ref(size),
        dtype: *dtype,
        tied_to: None,
    });
    let needs: Vec<_> = needs.collect();
    let checkpoint = checkpoint(&names, change);
    let expected = Expected {
        needs: &needs,
        strict: true,
        ..Expected::DEFAULT
    };
    let mut report = None;
    let cost = allocation_counter::measure(|| {
        let error = validate(&expected, &checkpoint).err();
        report = error.map(|error| error.to_string());
    });
    // However much is wrong, it is read on a screen.
    let lines = report.iter().flat_map(|report| report.lines()).count();
    assert!(lines < 60, "{report:?}");
    (needs.len() as u64, cost.count_total, cost.bytes_max)
}

#[test]
fn the_cost_is_in_proportion_to_the_number_of_tensors() {
    let changes: [fn(&str) -> String; 8] = [
        |name| name.to_owned(),
        |name| format!("base.{name}"),
        |name| name.replace("model.layers", "stack").replace("proj", "p"),
        |name| name.replace("experts.", ""),
        |name| name.strip_suffix("absmax").map_or(name, |_| "").to_owned(),
        |name| {
            name.strip_prefix("model.layers.7")
                .map_or(name, |_| "")
                .to_owned()
        },
        // Nothing in common with the names, and no two alike.
        |name| name.replace(".experts.", "_").replace("layers.", "l"),
        |name| name.split('.').rev().collect::<Vec<_>>().join("_"),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let (_, few, _) = cost(64, change);
        let (needs, many, peak) = cost(512, change);
        assert!(
            many < few * 9 + 20_000,
            "{i}: {few} allocations become {many}"
        );
        let likely = needs * 8..needs * 600;
        assert!(
            likely.contains(&peak),
            "{i}: {peak} bytes for {needs} tensors"
        );
    }
}
