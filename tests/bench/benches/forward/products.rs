//! Products of one and four rows with more weights than a cache holds, in turns with plain reads.

use pycandle::dispatch::{Layout, dense};
use pycandle::{DType, Device, Result, Tensor, candle_core};

use super::measure::{Memory, median, time};

/// Weight matrices, each `[4864, 896]` or transposed.
const COUNT: usize = 24;
const SIZE: (usize, usize) = (4864, 896);
const TURNS: usize = 15;

struct Product {
    weights: Vec<Tensor>,
    layout: Layout,
    x: Tensor,
    seconds: Vec<f64>,
}

/// Measures all products and prints what they read.
pub fn run() -> Result<()> {
    let mut products = Vec::new();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let zeros = |_| Tensor::zeros(SIZE, dtype, &Device::Cpu)?.affine(1.0, 0.5);
        let weights: Vec<Tensor> = (0..COUNT).map(zeros).collect::<candle_core::Result<_>>()?;
        for (layout, inner) in [(Layout::OutIn, SIZE.1), (Layout::InOut, SIZE.0)] {
            for rows in [1, 4] {
                products.push(Product {
                    weights: weights.clone(),
                    layout,
                    x: Tensor::ones((rows, inner), dtype, &Device::Cpu)?,
                    seconds: Vec::new(),
                });
            }
        }
    }
    let (memory, mut reads) = (Memory::new(), Vec::new());
    for _ in 0..TURNS {
        reads.push(memory.read());
        for product in &mut products {
            let Product {
                weights, layout, x, ..
            } = product;
            let seconds = time(&mut || {
                weights.iter().try_for_each(|weight| {
                    std::hint::black_box(dense(x, weight, None, *layout)?);
                    Ok(())
                })
            })?;
            product.seconds.push(seconds);
        }
    }
    let roof = median(&mut reads);
    println!("plain reads of memory: {roof:.1} GB/s");
    println!("{:28} {:>6} {:>10}", "products", "GB/s", "of reads");
    for Product {
        weights,
        layout,
        x,
        mut seconds,
    } in products
    {
        let bytes = COUNT * SIZE.0 * SIZE.1 * x.dtype().size_in_bytes();
        let speed = bytes as f64 / median(&mut seconds) / 1e9;
        println!(
            "{:28} {speed:>6.1} {:>9.0}%",
            format!(
                "{} {layout:?}, {} rows",
                weights[0].dtype().as_str(),
                x.dims()[0]
            ),
            100.0 * speed / roof
        );
    }
    Ok(())
}
