//! The largest elements of windows over one, two or three dimensions, where they are, and back.

use candle_core::{Tensor, WithDType};

use super::Result;
use super::create::full;
use super::map::chunks;
use super::memory::{fail, on_cpu, read, tensor, with_any, written};
use super::pool::{Axis, part};
use super::scatter::scatter;
use super::sort::is_nan;

/// One size per spatial dimension: a number, or two or three.
trait Sizes: Copy {
    /// As those of a volume, the ones that it lacks being `fill`.
    fn three(self, fill: usize) -> [usize; 3];
    /// How many there are.
    const COUNT: usize;
}

impl Sizes for usize {
    fn three(self, fill: usize) -> [usize; 3] {
        [fill, fill, self]
    }
    const COUNT: usize = 1;
}

impl Sizes for (usize, usize) {
    fn three(self, fill: usize) -> [usize; 3] {
        [fill, self.0, self.1]
    }
    const COUNT: usize = 2;
}

impl Sizes for (usize, usize, usize) {
    fn three(self, _: usize) -> [usize; 3] {
        [self.0, self.1, self.2]
    }
    const COUNT: usize = 3;
}

/// Declares max pooling of one number of dimensions: the elements, and both.
macro_rules! max_pools {
    ($($(#[$doc:meta])* $name:ident, $(#[$both_doc:meta])* $both:ident: $sizes:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(
            x: &Tensor,
            kernel: $sizes,
            stride: $sizes,
            padding: $sizes,
            dilation: $sizes,
            ceil_mode: bool,
        ) -> Result<Tensor> {
            Ok($both(x, kernel, stride, padding, dilation, ceil_mode)?.0)
        }

        $(#[$both_doc])*
        pub fn $both(
            x: &Tensor,
            kernel: $sizes,
            stride: $sizes,
            padding: $sizes,
            dilation: $sizes,
            ceil_mode: bool,
        ) -> Result<(Tensor, Tensor)> {
            let settings = [
                kernel.three(1),
                stride.three(1),
                padding.three(0),
                dilation.three(1),
            ];
            pooled(stringify!($name), x, <$sizes>::COUNT, settings, ceil_mode)
        }
    )*};
}

max_pools! {
    /// The largest element of each window, `[.., length]`; NaN where there is one. The padding
    /// never wins. (`aten.max_pool1d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[1f32, 4., 2.]]], &Device::Cpu)?;
    /// let y = ops::max_pool1d(&x, 2, 1, 0, 1, false)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[4., 4.]]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool1d,
    /// [`max_pool1d`], and where its elements are, as `I64`. (`aten.max_pool1d_with_indices`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[1f32, 4., 2.]]], &Device::Cpu)?;
    /// let (_, at) = ops::max_pool1d_with_indices(&x, 2, 1, 0, 1, false)?;
    /// assert_eq!(at.to_vec3::<i64>()?, [[[1, 1]]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool1d_with_indices: usize;
    /// [`max_pool1d`] of images, `[.., height, width]`. (`aten.max_pool2d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
    /// let y = ops::max_pool2d(&x, (2, 2), (2, 2), (0, 0), (1, 1), false)?;
    /// assert_eq!(y.dims(), [1, 1, 1, 1]);
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [6.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool2d,
    /// [`max_pool2d`], and where its elements are in the flat image, as `I64`: the first of equal
    /// ones. (`aten.max_pool2d_with_indices`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [6., 3.]]]], &Device::Cpu)?;
    /// let (_, at) = ops::max_pool2d_with_indices(&x, (2, 2), (2, 2), (0, 0), (1, 1), false)?;
    /// assert_eq!(at.flatten_all()?.to_vec1::<i64>()?, [2]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool2d_with_indices: (usize, usize);
    /// [`max_pool1d`] of volumes, `[.., depth, height, width]`. (`aten.max_pool3d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?; // one channel
    /// let y = ops::max_pool3d(&x, (1, 2, 1), (1, 2, 1), (0, 0, 0), (1, 1, 1), false)?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3., 6.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool3d,
    /// [`max_pool3d`], and where its elements are in the flat volume, as `I64`.
    /// (`aten.max_pool3d_with_indices`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
    /// let sizes = ((1, 2, 1), (1, 2, 1), (0, 0, 0), (1, 1, 1));
    /// let (_, at) = ops::max_pool3d_with_indices(&x, sizes.0, sizes.1, sizes.2, sizes.3, false)?;
    /// assert_eq!(at.flatten_all()?.to_vec1::<i64>()?, [2, 3]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool3d_with_indices: (usize, usize, usize);
}

/// Kernel, stride, padding and dilation.
type Settings = [[usize; 3]; 4];

fn pooled(
    op: &str,
    x: &Tensor,
    dims: usize,
    [kernel, stride, padding, dilation]: Settings,
    ceil: bool,
) -> Result<(Tensor, Tensor)> {
    let sizes = spatial(op, x, dims)?;
    let mut places = Vec::with_capacity(3);
    for i in 0..3 {
        let settings = (kernel[i], stride[i], padding[i], dilation[i]);
        let axis = Axis::new(op, sizes[i], settings, ceil)?;
        places.push(axis.windows());
    }
    largest(op, x, dims, sizes, &places)
}

/// The sizes of the last dimensions as those of a volume.
fn spatial(op: &str, x: &Tensor, dims: usize) -> Result<[usize; 3]> {
    let Some(first) = x.rank().checked_sub(dims).filter(|&n| n > 0) else {
        fail!(
            "{op}: expected channels and {dims} dimensions, got {:?}",
            x.dims()
        );
    };
    let mut sizes = [1; 3];
    sizes[3 - dims..].copy_from_slice(&x.dims()[first..]);
    Ok(sizes)
}

/// Declares max pooling into a number of parts.
macro_rules! adaptive_max_pools {
    ($($(#[$doc:meta])* $name:ident: $sizes:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor, output: $sizes) -> Result<(Tensor, Tensor)> {
            let op = stringify!($name);
            let sizes = spatial(op, x, <$sizes>::COUNT)?;
            if sizes.contains(&0) {
                fail!("{op}: {:?} has no element to take", x.dims());
            }
            let parts = output.three(1).into_iter().zip(sizes);
            let places = parts.map(|(parts, size)| {
                (0..parts).map(|i| part(i, size, parts).collect()).collect()
            });
            largest(op, x, <$sizes>::COUNT, sizes, &places.collect::<Vec<_>>())
        }
    )*};
}

adaptive_max_pools! {
    /// The largest elements of so many windows, which divide `[.., length]`, and where they are, as
    /// `I64`. (`aten.adaptive_max_pool1d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[1f32, 4., 2., 3.]]], &Device::Cpu)?;
    /// let (y, at) = ops::adaptive_max_pool1d(&x, 2)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[4., 3.]]]);
    /// assert_eq!(at.to_vec3::<i64>()?, [[[1, 3]]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    adaptive_max_pool1d: usize;
    /// [`adaptive_max_pool1d`] of images. (`aten.adaptive_max_pool2d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?;
    /// let (y, _) = ops::adaptive_max_pool2d(&x, (1, 2))?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3., 6.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    adaptive_max_pool2d: (usize, usize);
    /// [`adaptive_max_pool1d`] of volumes. (`aten.adaptive_max_pool3d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?; // one channel
    /// let (y, at) = ops::adaptive_max_pool3d(&x, (1, 2, 1))?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 6.]);
    /// assert_eq!(at.flatten_all()?.to_vec1::<i64>()?, [1, 3]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    adaptive_max_pool3d: (usize, usize, usize);
}

/// The largest element of each window, and where it is in its volume; `places` are, per axis and
/// window, the positions that it covers.
fn largest(
    op: &str,
    x: &Tensor,
    dims: usize,
    sizes: [usize; 3],
    places: &[Vec<Vec<usize>>],
) -> Result<(Tensor, Tensor)> {
    let [depths, rows, columns] = places else {
        fail!("{op}: expected three axes");
    };
    let batch = &x.dims()[..x.rank() - dims];
    let output = [depths.len(), rows.len(), columns.len()];
    let shape = [batch, &output[3 - dims..]].concat();
    let (volume, count) = (sizes.iter().product::<usize>(), output.iter().product());
    let of = |i: usize| {
        let row = i / output[2];
        [
            &depths[row / output[1]],
            &rows[row % output[1]],
            &columns[i % output[2]],
        ]
    };
    on_cpu(&[x], |inputs| {
        with_any!(inputs[0].dtype(), op, T => read::<T, _>(inputs[0], |data| {
            let at = written(shape.iter().product(), |out: &mut [i64]| {
                chunks(out, usize::max(count, 1), &|start, out: &mut [i64]| {
                    let plane = start / count * volume;
                    let plane = &data[plane..plane + volume];
                    for (i, to) in out.iter_mut().enumerate() {
                        *to = winner(plane, sizes, of(i));
                    }
                });
            });
            let value = |(i, &at): (usize, &i64)| match usize::try_from(at) {
                Ok(at) => data[i / count * volume + at],
                Err(_) => T::from_f64(f64::NEG_INFINITY),
            };
            let values = at.iter().enumerate().map(value).collect();
            Ok((tensor(values, &shape[..])?, tensor(at, &shape[..])?))
        }))
    })
}

/// Where the largest element of a window is: the first of equal ones, and the last NaN; -1 for a
/// window that lies in the padding.
fn winner<T: WithDType>(plane: &[T], sizes: [usize; 3], window: [&Vec<usize>; 3]) -> i64 {
    let mut best: Option<(T, usize)> = None;
    for &z in window[0] {
        for &y in window[1] {
            let row = (z * sizes[1] + y) * sizes[2];
            for &x in window[2] {
                let v = plane[row + x];
                if best.is_none_or(|(largest, _)| v > largest || is_nan(&v)) {
                    best = Some((v, row + x));
                }
            }
        }
    }
    best.map_or(-1, |(_, at)| at as i64)
}

/// Declares what undoes max pooling.
macro_rules! max_unpools {
    ($($(#[$doc:meta])* $name:ident: $sizes:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor, indices: &Tensor, output: $sizes) -> Result<Tensor> {
            let output = &output.three(1)[3 - <$sizes>::COUNT..];
            unpooled(stringify!($name), x, indices, output)
        }
    )*};
}

max_unpools! {
    /// An image of zeros with every element where [`max_pool2d_with_indices`] took it from.
    /// (`aten.max_unpool2d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[7f32]]]], &Device::Cpu)?;
    /// let at = Tensor::new(&[[[[2i64]]]], &Device::Cpu)?;
    /// let y = ops::max_unpool2d(&x, &at, (2, 2))?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 0., 7., 0.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_unpool2d: (usize, usize);
    /// [`max_unpool2d`] of volumes. (`aten.max_unpool3d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[7f32]]]], &Device::Cpu)?; // one channel
    /// let at = Tensor::new(&[[[[1i64]]]], &Device::Cpu)?;
    /// let y = ops::max_unpool3d(&x, &at, (1, 1, 2))?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 7.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_unpool3d: (usize, usize, usize);
}

fn unpooled(op: &str, x: &Tensor, indices: &Tensor, output: &[usize]) -> Result<Tensor> {
    let first = x.rank().checked_sub(output.len()).filter(|&n| n > 0);
    let Some(first) = first.filter(|_| indices.dims() == x.dims()) else {
        fail!("{op}: input {:?}, indices {:?}", x.dims(), indices.dims());
    };
    let (batch, sizes) = x.dims().split_at(first);
    let flat = (
        batch.iter().product::<usize>(),
        sizes.iter().product::<usize>(),
    );
    let zeros = [flat.0, output.iter().product()];
    let zeros = full(0.0, &zeros, x.dtype(), x.device())?;
    let y = scatter(&zeros, 1, &indices.reshape(flat)?, &x.reshape(flat)?)?;
    Ok(y.reshape([batch, output].concat())?)
}
