//! Parity of values that are reported without a model: calls, dtypes, fills, and the report as JSON.

use std::collections::BTreeMap;

use pycandle::parity::{Goldens, ParityReport, Traced, Verdict};
use pycandle::{Device, Error, Path, Probe, Result, Tensor, Weights};

use crate::parity::verdict;
use crate::{folder, save, write};

/// What a model reports, without a model: values by module and output, then one by name.
struct Reported;

impl Traced for Reported {
    fn load(_: &Weights, _: &Device) -> Result<Self> {
        Ok(Self)
    }

    fn forward_named(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        p: &mut impl Probe,
    ) -> Result<BTreeMap<String, Tensor>> {
        let x = inputs.get("x").ok_or_else(|| Error::msg("no input `x`"))?;
        let twice = Path::root().join("twice");
        p.record(&twice, 0, x);
        p.record(&twice, 1, &(x * 2.0)?);
        p.record(&twice, 1, &(x * 3.0)?);
        p.record(&twice, 0, &(x * 4.0)?);
        Ok([("y".to_string(), x.clone())].into())
    }
}

/// Runs what is reported on goldens in f32 without a truth; `half` of them are in bf16.
fn reported(goldens: &[(&str, Vec<f32>)], half: &[&str]) -> ParityReport {
    reported_by::<Reported>(goldens, half)
}

fn reported_by<M: Traced>(goldens: &[(&str, Vec<f32>)], half: &[&str]) -> ParityReport {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    save(&path, &[("unused", &[1], &[0.])]);
    let weights = Weights::open(&path).expect("weights");
    let path = dir.path().join("model_trace.safetensors");
    let mut entries =
        vec![r#""__metadata__":{"format":"pycandle-goldens-1","dtype":"float32"}"#.to_string()];
    let mut data: Vec<u8> = Vec::new();
    for (key, values) in goldens {
        let start = data.len();
        let is_half = half.contains(key);
        for &v in values {
            match is_half {
                true => data.extend(&v.to_le_bytes()[2..]),
                false => data.extend(v.to_le_bytes()),
            }
        }
        let (dtype, len, end) = (
            if is_half { "BF16" } else { "F32" },
            values.len(),
            data.len(),
        );
        entries.push(format!(
            r#"{key:?}:{{"dtype":"{dtype}","shape":[{len}],"data_offsets":[{start},{end}]}}"#
        ));
    }
    write(&path, &format!("{{{}}}", entries.join(",")), &data);
    let goldens = Goldens::open(&path).expect("goldens");
    pycandle::parity::run::<M>(&weights, &goldens, &Device::Cpu).expect("a report")
}

fn reported_goldens(x: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let times = |factor: f32| x.iter().map(|v| v * factor).collect::<Vec<_>>();
    vec![
        ("input.x", times(1.)),
        ("output.y", times(1.)),
        ("twice#0.out.0", times(1.)),
        ("twice#0.out.1", times(2.)),
        ("twice#1.out.1", times(3.)),
        ("twice#2.out.0", times(4.)),
    ]
}

#[test]
fn calls_are_counted_by_module() {
    let report = reported(&reported_goldens(&[1., 2.]), &[]);
    assert!(report.passed(), "{report}");
}

/// A module called three times: of the first call only output 0 is shown, nothing of the second.
struct Partly;

impl Traced for Partly {
    const FUSED: &'static [&'static str] = &[
        "halves.*#0.out.1",
        "halves.*#1.out.0",
        "halves.*#1.out.1",
        "halves.*#2.out.0",
    ];

    fn load(_: &Weights, _: &Device) -> Result<Self> {
        Ok(Self)
    }

    fn forward_named(
        &self,
        inputs: &BTreeMap<String, Tensor>,
        p: &mut impl Probe,
    ) -> Result<BTreeMap<String, Tensor>> {
        let x = inputs.get("x").ok_or_else(|| Error::msg("no input `x`"))?;
        let halves = Path::root().join("halves");
        p.record_child(&halves, "0", 0, x);
        p.record_child(&halves, "0", 1, &(x * 2.0)?);
        p.record_child(&halves, "0", 1, &(x * 3.0)?);
        Ok(BTreeMap::new())
    }
}

#[test]
fn calls_that_show_other_outputs_are_told_apart() {
    let mut goldens = vec![("input.x", vec![1., 2.])];
    for key in [
        "halves.0#0.out.1",
        "halves.0#1.out.0",
        "halves.0#1.out.1",
        "halves.0#2.out.0",
    ] {
        goldens.push((key, vec![9., 9.]));
    }
    goldens.push(("halves.0#0.out.0", vec![1., 2.]));
    goldens.push(("halves.0#2.out.1", vec![2., 4.]));
    let report = reported_by::<Partly>(&goldens, &[]);
    // A third value has no golden.
    let unexpected = report.failures().map(|row| &*row.key);
    assert_eq!(unexpected.collect::<Vec<_>>(), ["halves.0#3.out.1"]);
    let fused = report
        .rows
        .iter()
        .filter(|row| row.verdict == Verdict::Fused);
    assert_eq!(fused.count(), 4, "{report}");
}

#[test]
fn distances_that_are_not_finite_say_so_as_json() {
    let mut goldens = reported_goldens(&[1., 2.]);
    goldens[1].1 = vec![0., 0.];
    goldens[2].1[0] = f32::NEG_INFINITY;
    let report = reported(&goldens, &[]);
    let json = serde_json::to_value(&report).expect("JSON");
    let row = |key: &str| {
        let rows = json["rows"].as_array().expect("rows").iter();
        rows.clone().find(|row| row["key"] == key).expect("a row")
    };
    assert_eq!(row("output.y")["rel"], "inf");
    assert_eq!(row("output.y")["abs"], 2.0);
    assert_eq!(row("output.y")["torch"], serde_json::Value::Null);
    let special = &row("twice#0.out.0")["verdict"]["special"];
    assert_eq!(
        (&special["golden"], &special["ours"]),
        (&"-inf".into(), &1.0.into())
    );
    let summary = serde_json::to_value(report.summary()).expect("JSON");
    assert_eq!(summary["worst"]["rel"], "inf");
}

#[test]
fn zeros_that_are_zeros_are_not_the_worst() {
    let (zeros, wrong) = (vec![0., 0.], vec![1., 3.]);
    let goldens = [
        ("input.x", zeros.clone()),
        ("twice#0.out.0", zeros.clone()),
        ("truth:twice#0.out.0", zeros),
        ("output.y", wrong.clone()),
        ("truth:output.y", wrong),
    ];
    let report = reported(&goldens, &[]);
    assert!(!report.passed());
    assert_eq!(report.worst().expect("two tensors").key, "output.y");
}

#[test]
fn another_floating_point_dtype_fails() {
    let report = reported(&reported_goldens(&[1., 2.]), &["output.y"]);
    let dtype = Verdict::DType {
        ours: "F32".into(),
        golden: "BF16".into(),
    };
    assert_eq!(*verdict(&report, "output.y"), dtype);
    assert_eq!(*verdict(&report, "twice#0.out.0"), Verdict::Pass);
}

#[test]
fn the_fills_of_masks_do_not_drown_what_they_leave() {
    for fill in [-1e4, -1e9] {
        for x in [
            [1., 2., fill, fill, fill, fill],
            [0., 0., 0., 0., fill, fill],
        ] {
            let mut goldens = reported_goldens(&x);
            assert!(reported(&goldens, &[]).passed());
            goldens[1].1[1] += 0.01;
            let report = reported(&goldens, &[]);
            assert_eq!(*verdict(&report, "output.y"), Verdict::Differs, "{report}");
            let mut goldens = reported_goldens(&x);
            goldens[1].1[4..].fill(fill * 1.00001);
            let report = reported(&goldens, &[]);
            assert!(report.rows.iter().any(|row| row.verdict.is_failure()));
        }
    }
    // One outlier, or a large value among its like, is no fill.
    let report = reported(&reported_goldens(&[1., 2., 3., 5e4, 5e4 + 1., 7.]), &[]);
    assert!(report.passed(), "{report}");
}
