//! Images and volumes sampled at given places, and the places of an affine map.

use candle_core::{DType, Tensor, WithDType};
use rayon::prelude::*;

use super::Result;
use super::cast::to_dtype;
use super::composed::widened;
use super::create::linspace;
use super::linalg::matmul;
use super::map::{chunks, same_dtype};
use super::memory::{fail, on_cpu, read, tensor, with_any, written};
use super::scalar::{div_scalar, mul_scalar};
use super::shape::{expand, stack};
use super::upsample::cubic;

/// How [`grid_sample`] weighs the elements around a place.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.]]]], &Device::Cpu)?;
/// let grid = Tensor::new(&[[[[0.2f32, 0.]]]], &Device::Cpu)?;
/// let (nearest, outside) = (ops::Sampling::Nearest, ops::Outside::Zeros);
/// let y = ops::grid_sample(&x, &grid, nearest, outside, false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Those next to it, by their distance along each of two or three dimensions.
    Bilinear,
    /// The nearest one, halves to the even one.
    Nearest,
    /// Four along each dimension of an image, by cubic convolution with `a` = -0.75.
    Bicubic,
}

/// What [`grid_sample`] takes for elements outside.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[[[[1f32, 2.]]]], &Device::Cpu)?;
/// let grid = Tensor::new(&[[[[9f32, 0.]]]], &Device::Cpu)?;
/// let (linear, border) = (ops::Sampling::Bilinear, ops::Outside::Border);
/// let y = ops::grid_sample(&x, &grid, linear, border, false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The nearest one inside.
    Border,
    /// Those inside, mirrored at the edges.
    Reflection,
}

/// `x` at the places of a grid: `[batch, channels, h, w]` at `[batch, .., 2]` gives
/// `[batch, channels, ..]`, and a volume at `[batch, .., 3]` the same. A place is the last dimension
/// first, from -1 to 1: the centres of the outer elements with `align_corners`, else their edges.
/// (`aten.grid_sampler`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// use ops::{Outside, Sampling};
/// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
/// let grid = Tensor::new(&[[[[0f32, 0.], [1., -1.]]]], &Device::Cpu)?;
/// let y = ops::grid_sample(&x, &grid, Sampling::Bilinear, Outside::Zeros, true)?;
/// assert_eq!(y.dims(), [1, 1, 1, 2]);
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn grid_sample(
    x: &Tensor,
    grid: &Tensor,
    sampling: Sampling,
    outside: Outside,
    align_corners: bool,
) -> Result<Tensor> {
    same_dtype("grid_sample", x, grid)?;
    let (&[batch, channels, ref sizes @ ..], &[of, ref places @ .., dims]) =
        (x.dims(), grid.dims())
    else {
        fail!("grid_sample: input {:?}, grid {:?}", x.dims(), grid.dims());
    };
    let fits = batch == of && dims == sizes.len() && (2..=3).contains(&dims);
    if !fits || sizes.contains(&0) || sampling == Sampling::Bicubic && dims != 2 {
        fail!("grid_sample: input {:?}, grid {:?}", x.dims(), grid.dims());
    }
    let sampler = Sampler {
        sampling,
        outside,
        align_corners,
        // A place is a width first, then a height.
        sizes: sizes.iter().rev().copied().collect(),
    };
    let shape = [&[batch, channels][..], places].concat();
    let (count, volume) = (
        places.iter().product::<usize>(),
        sizes.iter().product::<usize>(),
    );
    on_cpu(&[x, grid], |inputs| {
        // Places in double precision only where the grid is.
        let single = inputs[1].dtype() != DType::F64;
        let grid = to_dtype(inputs[1], DType::F64)?;
        let taps: Vec<Taps> = read::<f64, _>(&grid, |grid| {
            let places = grid.par_chunks_exact(dims);
            Ok(places.map(|place| sampler.taps(place, single)).collect())
        })?;
        with_any!(x.dtype(), "grid_sample", T => read::<T, _>(inputs[0], |data| {
            let out = written(shape.iter().product(), |out: &mut [T]| {
                chunks(out, count.max(1), &|start, out: &mut [T]| {
                    let plane = start / count;
                    let taps = &taps[plane / channels * count..];
                    let plane = &data[plane * volume..][..volume];
                    for (to, taps) in out.iter_mut().zip(taps) {
                        *to = T::from_f64(taps.weigh(plane));
                    }
                });
            });
            tensor(out, &shape[..])
        }))
    })
}

/// Elements of a plane with their weights: up to four along each of two dimensions, or two along
/// each of three.
#[derive(Clone, Copy)]
struct Taps {
    taps: [(usize, f64); 16],
    count: usize,
}

impl Taps {
    /// The first element, and nothing else.
    const FIRST: Self = Self {
        taps: [(0, 1.0); 16],
        count: 1,
    };

    fn new(taps: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut all = Self::FIRST;
        all.count = 0;
        for (to, tap) in all.taps.iter_mut().zip(taps) {
            *to = tap;
            all.count += 1;
        }
        all
    }

    fn iter(&self) -> impl Iterator<Item = (usize, f64)> + Clone {
        self.taps[..self.count].iter().copied()
    }

    fn weigh<T: WithDType>(&self, plane: &[T]) -> f64 {
        self.iter()
            .fold(0.0, |sum, (at, weight)| sum + weight * plane[at].to_f64())
    }
}

struct Sampler {
    sampling: Sampling,
    outside: Outside,
    align_corners: bool,
    /// The last dimension first.
    sizes: Vec<usize>,
}

impl Sampler {
    /// The elements of a plane that a place is made of.
    fn taps(&self, place: &[f64], single: bool) -> Taps {
        let mut taps = Taps::FIRST;
        let mut stride = 1;
        for (&at, &size) in place.iter().zip(&self.sizes) {
            let along = self.along(self.position(at, size, single), size);
            taps = Taps::new(taps.iter().flat_map(|(from, so_far)| {
                along
                    .iter()
                    .map(move |(p, weight)| (from + p * stride, so_far * weight))
            }));
            stride *= size;
        }
        taps
    }

    /// Where a place between -1 and 1 lies among the elements. PyTorch computes it otherwise for
    /// volumes than for images, and the last bit decides which element is the nearest.
    fn position(&self, at: f64, size: usize, single: bool) -> f64 {
        let round = |v: f64| if single { f64::from(v as f32) } else { v };
        let (at, n, volume) = (round(at + 1.0), size as f64, self.sizes.len() == 3);
        match (self.align_corners, volume) {
            (true, true) => round(at / 2.0 * (n - 1.0)),
            (true, false) => round(at * ((n - 1.0) / 2.0)),
            (false, true) => round(round(at * n) - 1.0) / 2.0,
            (false, false) => round(round(at * (n / 2.0)) - 0.5),
        }
    }

    /// The elements along one dimension; none for a zero outside.
    fn along(&self, at: f64, size: usize) -> Taps {
        let n = size as f64;
        let inside = |v: f64| (v >= 0.0 && v < n).then_some(v as usize);
        // An image has no weights there, as PyTorch computes them.
        let nowhere = self.sizes.len() == 2 && !at.is_finite();
        match self.sampling {
            Sampling::Bilinear => {
                let at = self.moved(at, n);
                if nowhere && !at.is_finite() {
                    return Taps::new([(0, f64::NAN)]);
                }
                let low = at.floor();
                let both = [(low, low + 1.0 - at), (low + 1.0, at - low)];
                Taps::new(
                    both.into_iter()
                        .filter_map(|(v, weight)| Some((inside(v)?, weight))),
                )
            }
            Sampling::Nearest => {
                let at = self.moved(at, n).round_ties_even();
                Taps::new(inside(at).map(|at| (at, 1.0)))
            }
            Sampling::Bicubic if nowhere => Taps::new([(0, f64::NAN)]),
            Sampling::Bicubic => {
                let low = at.floor();
                let weights = cubic(at - low, -0.75);
                let four = weights.into_iter().zip(-1..);
                Taps::new(four.filter_map(|(weight, k)| {
                    let at = self.moved(low + f64::from(k), n);
                    Some((inside(at)?, weight))
                }))
            }
        }
    }

    /// A position brought inside, as far as what is outside is not zero.
    fn moved(&self, at: f64, n: f64) -> f64 {
        let at = match (self.outside, self.align_corners) {
            (Outside::Zeros, _) => return at,
            (Outside::Border, _) => at,
            (Outside::Reflection, true) => mirrored(at, 0.0, n - 1.0),
            (Outside::Reflection, false) => mirrored(at, -0.5, n - 0.5),
        };
        // A NaN is brought to the first element of an image, and to the last of a volume.
        match self.sizes.len() {
            2 => at.max(0.0).min(n - 1.0),
            _ if at.is_nan() => n - 1.0,
            _ => at.clamp(0.0, n - 1.0),
        }
    }
}

/// A position mirrored at both edges as often as needed.
fn mirrored(at: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return 0.0;
    }
    let from_low = (at - low).abs();
    let (beyond, flips) = (from_low % span, (from_low / span).floor());
    match flips % 2.0 == 0.0 {
        true => beyond + low,
        false => span - beyond + low,
    }
}

/// The places that [`grid_sample`] takes for a batch of affine maps: `[batch, 2, 3]` and the size of
/// an image give `[batch, h, w, 2]`, `[batch, 3, 4]` and that of a volume `[batch, d, h, w, 3]`.
/// (`aten.affine_grid_generator`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let same = Tensor::new(&[[[1f32, 0., 0.], [0., 1., 0.]]], &Device::Cpu)?;
/// let grid = ops::affine_grid(&same, &[1, 2], true)?;
/// assert_eq!(grid.flatten_all()?.to_vec1::<f32>()?, [-1., 0., 1., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn affine_grid(theta: &Tensor, size: &[usize], align_corners: bool) -> Result<Tensor> {
    let n = size.len();
    if theta.rank() != 3 || theta.dims()[1..] != [n, n + 1] {
        fail!("affine_grid: maps {:?} for {size:?}", theta.dims());
    }
    let batch = theta.dims()[0];
    widened([theta], |[theta]| {
        let mut places = Vec::with_capacity(n + 1);
        for (d, &steps) in size.iter().enumerate().rev() {
            let along = match steps {
                1 => super::create::full(0.0, &[1], theta.dtype(), theta.device())?,
                _ => linspace(-1.0, 1.0, steps, theta.dtype(), theta.device())?,
            };
            let along = match align_corners {
                true => along,
                false => {
                    let inner = mul_scalar(&along, steps as f64 - 1.0)?;
                    div_scalar(&inner, steps as f64)?
                }
            };
            let mut shape = vec![1; n];
            shape[d] = steps;
            places.push(expand(&along.reshape(shape)?, size)?);
        }
        places.push(super::create::full(
            1.0,
            size,
            theta.dtype(),
            theta.device(),
        )?);
        let count: usize = size.iter().product();
        let places = stack(&places.iter().collect::<Vec<_>>(), n)?.reshape((count, n + 1))?;
        let grid = matmul(&places, &theta.transpose(1, 2)?)?;
        Ok(grid.reshape([&[batch], size, &[n]].concat())?)
    })
}
