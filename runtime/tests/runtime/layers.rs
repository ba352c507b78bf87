//! Layers against PyTorch: `layers.txt` is what `layers.py` printed.

use pycandle::*;

const EXPECTED: &str = include_str!("layers.txt");

/// `((i * a + b) mod m) / m - 0.5` as in `layers.py`.
fn values(shape: &[usize], [a, b, m]: [usize; 3], dtype: DType) -> Tensor {
    let count = shape.iter().product();
    let values = (0..count).map(|i: usize| ((i * a + b) % m) as f64 / m as f64 - 0.5);
    let values = Tensor::from_iter(values, &Device::Cpu).expect("a tensor");
    // PyTorch rounds to the half types by way of f32.
    let wide = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let values = values.to_dtype(wide).and_then(|v| v.to_dtype(dtype));
    values.and_then(|v| v.reshape(shape)).expect("a tensor")
}

fn param(shape: &[usize], abm: [usize; 3], add: f64, dtype: DType) -> Param {
    let tensor = (values(shape, abm, dtype) + add).expect("a tensor");
    Param::from_tensor("param", tensor)
}

/// Runs `layer` in every dtype and compares with PyTorch's values.
fn check(name: &str, layer: impl Fn(DType) -> Result<Tensor>) {
    for (dtype, torch, tolerance) in [
        (DType::F64, "float64", 1e-13),
        (DType::F32, "float32", 5e-7),
        // Half types are rounded in the same places, so they are equal.
        (DType::BF16, "bfloat16", 0.0),
        (DType::F16, "float16", 0.0),
    ] {
        let prefix = format!("{name} {torch} ");
        let line = EXPECTED.lines().find_map(|line| line.strip_prefix(&prefix));
        let (shape, expected) = line
            .and_then(|line| line.split_once(' '))
            .expect("a row of layers.txt");
        let out = layer(dtype).unwrap_or_else(|err| panic!("{name} in {torch}: {err}"));
        assert_eq!(out.dtype(), dtype, "{name}");
        let dims: Vec<String> = out.dims().iter().map(usize::to_string).collect();
        assert_eq!(dims.join(","), shape, "{name} in {torch}");
        let out = out
            .flatten_all()
            .and_then(|out| out.to_dtype(DType::F64))
            .expect("f64");
        let out = out.to_vec1::<f64>().expect("a vector");
        for (i, (ours, theirs)) in out.iter().zip(expected.split(' ')).enumerate() {
            let theirs: f64 = theirs.parse().expect("a number");
            let off = (ours - theirs).abs();
            assert!(
                off <= tolerance,
                "{name} in {torch}, element {i}: {ours}, PyTorch {theirs}"
            );
        }
        assert_eq!(out.len(), expected.split(' ').count(), "{name} in {torch}");
    }
}

fn x(dtype: DType) -> Tensor {
    (values(&[2, 6], [7, 3, 11], dtype) * 4.0).expect("a tensor")
}

#[test]
fn layer_norm() {
    check("layer_norm", |dtype| {
        let weight = param(&[6], [5, 1, 7], 1.0, dtype);
        let bias = param(&[6], [3, 2, 5], 0.0, dtype);
        LayerNorm::new(Some(weight), Some(bias), 6, 1e-5).forward(&x(dtype), &mut NoProbe)
    });
    check("layer_norm_plain", |dtype| {
        let norm = LayerNorm::new(None, None, (2, 3), 1e-5);
        norm.forward(&x(dtype).reshape((2, 2, 3))?, &mut NoProbe)
    });
}

#[test]
fn rms_norm() {
    let weight = |dtype| param(&[6], [5, 1, 7], 1.0, dtype);
    check("rms_norm", |dtype| {
        RmsNorm::new(weight(dtype), 1e-6).forward(&x(dtype), &mut NoProbe)
    });
    check("rms_norm_f32_scale", |dtype| {
        RmsNorm::new_f32_scale(weight(dtype), 1e-6).forward(&x(dtype), &mut NoProbe)
    });
    check("rms_norm_unit_offset", |dtype| {
        RmsNorm::new_unit_offset(weight(dtype), 1e-6).forward(&x(dtype), &mut NoProbe)
    });
}

#[test]
fn linear() {
    let bias = |dtype| Some(param(&[3], [3, 2, 5], 0.0, dtype));
    check("linear", |dtype| {
        let linear = Linear::new(param(&[3, 6], [13, 5, 17], 0.0, dtype), bias(dtype));
        linear.forward(&x(dtype), &mut NoProbe)
    });
    check("linear_transposed", |dtype| {
        let weight = values(&[3, 6], [13, 5, 17], dtype).t()?.contiguous()?;
        let linear = Linear::new_transposed(Param::from_tensor("weight", weight), bias(dtype));
        linear.forward(&x(dtype), &mut NoProbe)
    });
}

#[test]
fn conv1d() {
    check("conv1d", |dtype| {
        let config = Conv1dConfig {
            stride: 2,
            padding: 1,
            dilation: 2,
            groups: 2,
        };
        let weight = param(&[4, 2, 3], [5, 1, 13], 0.0, dtype);
        let conv = Conv1d::new(weight, Some(param(&[4], [3, 2, 5], 0.0, dtype)), config);
        conv.forward(&values(&[1, 4, 6], [7, 3, 11], dtype), &mut NoProbe)
    });
}

#[test]
fn conv2d() {
    check("conv2d", |dtype| {
        let config = Conv2dConfig {
            stride: [2, 1],
            padding: [1, 0],
            dilation: [1, 2],
            groups: 1,
        };
        let weight = param(&[2, 2, 3, 2], [5, 1, 13], 0.0, dtype);
        let conv = Conv2d::new(weight, Some(param(&[2], [3, 2, 5], 0.0, dtype)), config);
        conv.forward(&values(&[1, 2, 5, 6], [7, 3, 23], dtype), &mut NoProbe)
    });
}

#[test]
fn batch_and_group_norm() {
    let input = |dtype| values(&[2, 4, 3], [7, 3, 11], dtype);
    let four = |a, add, dtype| param(&[4], [a, 1, 7], add, dtype);
    check("batch_norm", |dtype| {
        let norm = BatchNorm::new(
            Some(four(5, 0.0, dtype)),
            Some(four(4, 0.0, dtype)),
            four(3, 0.0, dtype),
            four(2, 1.0, dtype),
            1e-5,
        );
        norm.forward(&input(dtype), &mut NoProbe)
    });
    check("group_norm", |dtype| {
        let (weight, bias) = (four(5, 0.0, dtype), four(4, 0.0, dtype));
        let norm = GroupNorm::new(Some(weight), Some(bias), 2, 4, 1e-5);
        norm.forward(&input(dtype), &mut NoProbe)
    });
}

#[test]
fn wrong_inputs_name_the_module() {
    let dir = crate::folder();
    let path = dir.path().join("model.safetensors");
    crate::save(&path, &[("layers.0.proj.weight", &[1, 2], &[1., 2.])]);
    let scope = Weights::open(&path)
        .expect("a good file")
        .scope(DType::F32, &Device::Cpu);
    let proj = Linear::no_bias(&scope.pp("layers").pp(0).pp("proj"), 2, 1).expect("a layer");
    let x = values(&[1, 3], [1, 0, 7], DType::F32);
    let text = proj
        .forward(&x, &mut NoProbe)
        .expect_err("a wrong width")
        .to_string();
    assert!(text.starts_with("layers.0.proj: linear"), "{text}");
    let table = Param::from_tensor("weight", values(&[3, 2], [1, 0, 7], DType::F32));
    for id in [3, -1, i64::MAX] {
        let ids = Tensor::new(&[id], &Device::Cpu).expect("ids");
        let text = Embedding::new(table.clone()).forward(&ids, &mut NoProbe);
        assert!(
            text.expect_err("no such row")
                .to_string()
                .contains("embedding")
        );
    }
}
