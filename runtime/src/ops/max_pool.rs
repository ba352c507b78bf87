//! The largest elements of windows over one, two or three dimensions, where they are, and back.

use candle_core::{Tensor, WithDType};

use super::Result;
use super::create::full;
use super::map::chunks;
use super::memory::{fail, on_cpu, read, tensor, with_any, written};
use super::pool::{Axis, Window, part};
use super::scatter::scatter;
use super::sort::is_nan;

/// One size per spatial dimension: a number, or two or three.
trait PerAxis: Copy {
    /// As those of a volume, the ones that it lacks being `fill`.
    fn three(self, fill: usize) -> [usize; 3];
    /// How many there are.
    const COUNT: usize;
}

impl PerAxis for usize {
    fn three(self, fill: usize) -> [usize; 3] {
        [fill, fill, self]
    }
    const COUNT: usize = 1;
}

impl PerAxis for (usize, usize) {
    fn three(self, fill: usize) -> [usize; 3] {
        [fill, self.0, self.1]
    }
    const COUNT: usize = 2;
}

impl PerAxis for (usize, usize, usize) {
    fn three(self, _: usize) -> [usize; 3] {
        [self.0, self.1, self.2]
    }
    const COUNT: usize = 3;
}

/// Declares max pooling of one number of dimensions.
macro_rules! max_pools {
    ($($(#[$doc:meta])* $name:ident: $sizes:ty => $out:ty, $run:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(
            x: &Tensor,
            kernel: $sizes,
            stride: $sizes,
            padding: $sizes,
            dilation: $sizes,
            ceil_mode: bool,
        ) -> Result<$out> {
            let settings = [
                kernel.three(1),
                stride.three(1),
                padding.three(0),
                dilation.three(1),
            ];
            $run(x, &Windows::new(stringify!($name), x, <$sizes>::COUNT, settings, ceil_mode)?)
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
    max_pool1d: usize => Tensor, values;
    /// [`max_pool1d`], and where its elements are, as `I64`. (`aten.max_pool1d_with_indices`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[1f32, 4., 2.]]], &Device::Cpu)?;
    /// let (_, at) = ops::max_pool1d_with_indices(&x, 2, 1, 0, 1, false)?;
    /// assert_eq!(at.to_vec3::<i64>()?, [[[1, 1]]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool1d_with_indices: usize => (Tensor, Tensor), with_indices;
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
    max_pool2d: (usize, usize) => Tensor, values;
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
    max_pool2d_with_indices: (usize, usize) => (Tensor, Tensor), with_indices;
    /// [`max_pool1d`] of volumes, `[.., depth, height, width]`. (`aten.max_pool3d`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[[[[1f32, 2.], [3., 6.]]]], &Device::Cpu)?; // one channel
    /// let y = ops::max_pool3d(&x, (1, 2, 1), (1, 2, 1), (0, 0, 0), (1, 1, 1), false)?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3., 6.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    max_pool3d: (usize, usize, usize) => Tensor, values;
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
    max_pool3d_with_indices: (usize, usize, usize) => (Tensor, Tensor), with_indices;
}

/// Declares max pooling into a number of parts.
macro_rules! adaptive_max_pools {
    ($($(#[$doc:meta])* $name:ident: $sizes:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor, output: $sizes) -> Result<(Tensor, Tensor)> {
            let windows = Windows::parts(stringify!($name), x, <$sizes>::COUNT, output.three(1))?;
            with_indices(x, &windows)
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

/// The windows of a pooling over the last dimensions of a tensor.
struct Windows {
    op: &'static str,
    /// Of the tensor, before those that are pooled.
    batch: Vec<usize>,
    dims: usize,
    /// Of a volume.
    sizes: [usize; 3],
    /// Per axis and window, the positions that it covers.
    places: [Vec<Window>; 3],
}

impl Windows {
    /// By kernel, stride, padding and dilation.
    fn new(
        op: &'static str,
        x: &Tensor,
        dims: usize,
        [kernel, stride, padding, dilation]: [[usize; 3]; 4],
        ceil: bool,
    ) -> Result<Self> {
        Self::by(op, x, dims, |i, size| {
            let settings = (kernel[i], stride[i], padding[i], dilation[i]);
            Ok(Axis::new(op, size, settings, ceil)?.windows())
        })
    }

    /// As many as `output` per axis, which divide it.
    fn parts(op: &'static str, x: &Tensor, dims: usize, output: [usize; 3]) -> Result<Self> {
        Self::by(op, x, dims, |i, size| {
            if size == 0 {
                fail!("{op}: {:?} has no element to take", x.dims());
            }
            let windows = (0..output[i]).map(|at| part(at, size, output[i]).step_by(1));
            Ok(windows.collect())
        })
    }

    fn by(
        op: &'static str,
        x: &Tensor,
        dims: usize,
        windows: impl Fn(usize, usize) -> Result<Vec<Window>>,
    ) -> Result<Self> {
        let Some(first) = x.rank().checked_sub(dims).filter(|&n| n > 0) else {
            fail!(
                "{op}: expected channels and {dims} dimensions, got {:?}",
                x.dims()
            );
        };
        let (batch, last) = x.dims().split_at(first);
        let mut sizes = [1; 3];
        sizes[3 - dims..].copy_from_slice(last);
        Ok(Self {
            op,
            batch: batch.to_vec(),
            dims,
            sizes,
            places: [
                windows(0, sizes[0])?,
                windows(1, sizes[1])?,
                windows(2, sizes[2])?,
            ],
        })
    }

    /// The shape of what comes out.
    fn shape(&self) -> Vec<usize> {
        let output = self.places.each_ref().map(Vec::len);
        [&self.batch, &output[3 - self.dims..]].concat()
    }

    /// Calls `f` on each volume of `data` with the part of the output that is of it.
    fn per_volume<T: WithDType, R: WithDType>(
        &self,
        data: &[T],
        f: impl Fn(&[T], usize, &mut [R]) + Sync,
    ) -> Vec<R> {
        let volume: usize = self.sizes.iter().product();
        let count: usize = self.places.iter().map(Vec::len).product();
        written(self.shape().iter().product(), |out: &mut [R]| {
            chunks(out, count.max(1), &|start, out: &mut [R]| {
                let plane = start / count * volume;
                f(&data[plane..plane + volume], start, out);
            });
        })
    }

    /// What `pick` makes of each window's volume and the place of its largest element there.
    fn each<T: WithDType, R: WithDType>(
        &self,
        data: &[T],
        pick: impl Fn(&[T], Option<usize>) -> R + Sync,
    ) -> Vec<R> {
        let [depths, rows, columns] = &self.places;
        self.per_volume(data, |plane, _, out| {
            for (i, to) in out.iter_mut().enumerate() {
                let row = i / columns.len();
                let window = [
                    &depths[row / rows.len()],
                    &rows[row % rows.len()],
                    &columns[i % columns.len()],
                ];
                *to = pick(plane, winner(plane, self.sizes, window));
            }
        })
    }
}

fn values(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        with_any!(inputs[0].dtype(), windows.op, T => read::<T, _>(inputs[0], |data| {
            tensor(windows.each(data, element), windows.shape())
        }))
    })
}

/// The elements, and where in its volume each is; -1 for a window that lies in the padding.
fn with_indices(x: &Tensor, windows: &Windows) -> Result<(Tensor, Tensor)> {
    on_cpu(&[x], |inputs| {
        with_any!(inputs[0].dtype(), windows.op, T => read::<T, _>(inputs[0], |data| {
            let places = windows.each(data, |_, at| at.map_or(-1, |at| at as i64));
            let values = windows.per_volume(data, |plane, start, out| {
                for (to, &at) in out.iter_mut().zip(&places[start..]) {
                    *to = element(plane, usize::try_from(at).ok());
                }
            });
            let shape = windows.shape();
            Ok((tensor(values, &shape[..])?, tensor(places, shape)?))
        }))
    })
}

/// An element of a volume; the least number for none.
fn element<T: WithDType>(volume: &[T], at: Option<usize>) -> T {
    at.map_or_else(|| T::from_f64(f64::NEG_INFINITY), |at| volume[at])
}

/// Where the largest element of a window is: the first of equal ones, and the last NaN.
fn winner<T: WithDType>(plane: &[T], sizes: [usize; 3], window: [&Window; 3]) -> Option<usize> {
    let mut best: Option<(T, usize)> = None;
    for z in window[0].clone() {
        for y in window[1].clone() {
            let row = (z * sizes[1] + y) * sizes[2];
            for x in window[2].clone() {
                let v = plane[row + x];
                if best.is_none_or(|(largest, _)| v > largest || is_nan(&v)) {
                    best = Some((v, row + x));
                }
            }
        }
    }
    best.map(|(_, at)| at)
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
