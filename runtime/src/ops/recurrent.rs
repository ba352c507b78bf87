//! Recurrent layers over whole sequences, of any number of layers, in one or both directions.
//!
//! Half types are computed in `f32` from the first step to the last and rounded once.

use candle_core::{DType, Tensor};

use super::Result;
use super::activation::{relu, sigmoid};
use super::cast::to_dtype;
use super::elementwise::{add, mul, sub};
use super::functions::tanh;
use super::linear::linear;
use super::memory::{fail, is_half};
use super::shape::{cat, stack};

/// Long short-term memory: the outputs of all steps, the last outputs, and the last cells.
/// (`aten.lstm.input`)
///
/// `x` is `[steps, batch, in]`, or `[batch, steps, in]` with `batch_first`, and so are the outputs.
/// `h` is `[layers * directions, batch, out]`, `c` the same with the size of the cells.
/// `weights` are those of all layers, of each the ones forwards before the ones backwards:
/// `[4 * hidden, in]`, `[4 * hidden, out]`, then the biases of both if there are any, then the
/// projection `[out, hidden]` if there is one. The gates are input, forget, cell and output.
///
/// Fails when there is no step, or shapes do not fit.
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// # fn main() -> pycandle::Result<()> {
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let (x, h, c) = (zeros(&[5, 2, 3])?, zeros(&[1, 2, 4])?, zeros(&[1, 2, 4])?);
/// let (y, h, c) = ops::lstm(&x, &h, &c, &[&zeros(&[16, 3])?, &zeros(&[16, 4])?], false, false)?;
/// assert_eq!((y.dims(), h.dims(), c.dims()), (&[5, 2, 4][..], &[1, 2, 4][..], &[1, 2, 4][..]));
/// # Ok(())
/// # }
/// ```
pub fn lstm(
    x: &Tensor,
    h: &Tensor,
    c: &Tensor,
    weights: &[&Tensor],
    bidirectional: bool,
    batch_first: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    let sequence = Sequence::new("lstm", x, h, weights, bidirectional, batch_first)?;
    let (y, [h, c]) = sequence.run([h, c], |gates, [h, c], way| {
        let hidden = c.dim(1)?;
        let gates = add(gates, &way.of_output(h)?)?;
        let gate = |i: usize| gates.narrow(1, i * hidden, hidden);
        let (input, forget) = (sigmoid(&gate(0)?)?, sigmoid(&gate(1)?)?);
        let cell = mul(&input, &tanh(&gate(2)?)?)?;
        let c = add(&mul(&forget, c)?, &cell)?;
        let h = mul(&sigmoid(&gate(3)?)?, &tanh(&c)?)?;
        Ok([way.projected(h)?, c])
    })?;
    Ok((y, h, c))
}

/// Gated recurrent units: the outputs of all steps, and the last ones. (`aten.gru.input`)
///
/// Shapes are those of [`lstm`], without cells and projection, and with three gates: reset, update
/// and new.
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// # fn main() -> pycandle::Result<()> {
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let (x, h) = (zeros(&[2, 5, 3])?, zeros(&[1, 2, 4])?);
/// let (y, h) = ops::gru(&x, &h, &[&zeros(&[12, 3])?, &zeros(&[12, 4])?], false, true)?;
/// assert_eq!((y.dims(), h.dims()), (&[2, 5, 4][..], &[1, 2, 4][..]));
/// # Ok(())
/// # }
/// ```
pub fn gru(
    x: &Tensor,
    h: &Tensor,
    weights: &[&Tensor],
    bidirectional: bool,
    batch_first: bool,
) -> Result<(Tensor, Tensor)> {
    let sequence = Sequence::new("gru", x, h, weights, bidirectional, batch_first)?;
    let (y, [h]) = sequence.run([h], |gates, [h], way| {
        let hidden = h.dim(1)?;
        let own = way.of_output(h)?;
        let gate = |gates: &Tensor, i: usize| gates.narrow(1, i * hidden, hidden);
        let both = |i| -> Result<Tensor> { sigmoid(&add(&gate(gates, i)?, &gate(&own, i)?)?) };
        let new = tanh(&add(&gate(gates, 2)?, &mul(&both(0)?, &gate(&own, 2)?)?)?)?;
        Ok([add(&mul(&sub(h, &new)?, &both(1)?)?, &new)?])
    })?;
    Ok((y, h))
}

/// `tanh` of the input and the last output: the outputs of all steps, and the last ones.
/// (`aten.rnn_tanh.input`)
///
/// Shapes are those of [`lstm`], without cells and projection, and with one gate.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// # fn main() -> pycandle::Result<()> {
/// let x = Tensor::new(&[[[0f32]], [[1.]]], &Device::Cpu)?;
/// let (h, one) = (x.narrow(0, 0, 1)?, x.narrow(0, 1, 1)?.squeeze(0)?);
/// let (y, _) = ops::rnn_tanh(&x, &h, &[&one, &one], false, false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 1f32.tanh()]);
/// # Ok(())
/// # }
/// ```
pub fn rnn_tanh(
    x: &Tensor,
    h: &Tensor,
    weights: &[&Tensor],
    bidirectional: bool,
    batch_first: bool,
) -> Result<(Tensor, Tensor)> {
    let sequence = Sequence::new("rnn_tanh", x, h, weights, bidirectional, batch_first)?;
    sequence.plain(h, tanh)
}

/// [`rnn_tanh`] with `max(x, 0)`. (`aten.rnn_relu.input`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// # fn main() -> pycandle::Result<()> {
/// let x = Tensor::new(&[[[1f32]], [[-3.]], [[5.]]], &Device::Cpu)?;
/// let (h, one) = (x.narrow(0, 0, 1)?, x.narrow(0, 0, 1)?.squeeze(0)?);
/// let (y, last) = ops::rnn_relu(&x, &h, &[&one, &one], false, false)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2., 0., 5.]);
/// assert_eq!(last.flatten_all()?.to_vec1::<f32>()?, [5.]);
/// # Ok(())
/// # }
/// ```
pub fn rnn_relu(
    x: &Tensor,
    h: &Tensor,
    weights: &[&Tensor],
    bidirectional: bool,
    batch_first: bool,
) -> Result<(Tensor, Tensor)> {
    let sequence = Sequence::new("rnn_relu", x, h, weights, bidirectional, batch_first)?;
    sequence.plain(h, relu)
}

/// One step of [`lstm`]: of `[batch, in]`, outputs and cells. (`aten.lstm_cell`)
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// # fn main() -> pycandle::Result<()> {
/// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let (x, h, c) = (zeros(&[2, 3])?, zeros(&[2, 4])?, zeros(&[2, 4])?);
/// let (h, c) = ops::lstm_cell(&x, &h, &c, &[&zeros(&[16, 3])?, &zeros(&[16, 4])?])?;
/// assert_eq!((h.dims(), c.dims()), (&[2, 4][..], &[2, 4][..]));
/// # Ok(())
/// # }
/// ```
pub fn lstm_cell(
    x: &Tensor,
    h: &Tensor,
    c: &Tensor,
    weights: &[&Tensor],
) -> Result<(Tensor, Tensor)> {
    let (x, h, c) = (x.unsqueeze(0)?, h.unsqueeze(0)?, c.unsqueeze(0)?);
    let (_, h, c) = lstm(&x, &h, &c, weights, false, false)?;
    Ok((h.squeeze(0)?, c.squeeze(0)?))
}

/// Declares one step of a recurrent layer without cells.
macro_rules! cells {
    ($($(#[$doc:meta])* $name:ident: $layer:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor, h: &Tensor, weights: &[&Tensor]) -> Result<Tensor> {
            let (x, h) = (x.unsqueeze(0)?, h.unsqueeze(0)?);
            Ok($layer(&x, &h, weights, false, false)?.1.squeeze(0)?)
        }
    )*};
}

cells! {
    /// One step of [`gru`], of `[batch, in]`. (`aten.gru_cell`)
    ///
    /// ```
    /// # use pycandle::{DType, Device, Tensor, ops};
    /// # fn main() -> pycandle::Result<()> {
    /// let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    /// let (x, h) = (zeros(&[2, 3])?, zeros(&[2, 4])?);
    /// let h = ops::gru_cell(&x, &h, &[&zeros(&[12, 3])?, &zeros(&[12, 4])?])?;
    /// assert_eq!(h.dims(), [2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    gru_cell: gru;
    /// One step of [`rnn_tanh`], of `[batch, in]`. (`aten.rnn_tanh_cell`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let one = Tensor::new(&[[1f32]], &Device::Cpu)?;
    /// let h = ops::rnn_tanh_cell(&one, &one, &[&one, &one])?;
    /// assert_eq!(h.to_vec2::<f32>()?, [[2f32.tanh()]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    rnn_tanh_cell: rnn_tanh;
    /// One step of [`rnn_relu`], of `[batch, in]`. (`aten.rnn_relu_cell`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let one = Tensor::new(&[[1f32]], &Device::Cpu)?;
    /// let h = ops::rnn_relu_cell(&one, &one, &[&one, &one])?;
    /// assert_eq!(h.to_vec2::<f32>()?, [[2.]]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    rnn_relu_cell: rnn_relu;
}

/// One layer in one direction.
struct Way {
    input: Tensor,
    output: Tensor,
    biases: Option<(Tensor, Tensor)>,
    projection: Option<Tensor>,
}

impl Way {
    fn of_input(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.input, self.biases.as_ref().map(|(b, _)| b))
    }

    fn of_output(&self, h: &Tensor) -> Result<Tensor> {
        linear(h, &self.output, self.biases.as_ref().map(|(_, b)| b))
    }

    fn projected(&self, h: Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(weight) => linear(&h, weight, None),
            None => Ok(h),
        }
    }
}

/// A sequence and the layers that run over it, in the dtype that is computed in.
struct Sequence {
    x: Tensor,
    ways: Vec<Way>,
    directions: usize,
    batch_first: bool,
    dtype: DType,
}

impl Sequence {
    fn new(
        op: &str,
        x: &Tensor,
        state: &Tensor,
        weights: &[&Tensor],
        bidirectional: bool,
        batch_first: bool,
    ) -> Result<Self> {
        let directions = 1 + usize::from(bidirectional);
        let (&[a, b, _], &[ways, ..]) = (x.dims(), state.dims()) else {
            fail!("{op}: input {:?}, state {:?}", x.dims(), state.dims());
        };
        if (if batch_first { b } else { a }) == 0 {
            fail!("{op}: a sequence without a step");
        }
        let per_way = weights.len().checked_div(ways).unwrap_or(0);
        if !(2..=5).contains(&per_way) || weights.len() != ways * per_way || ways % directions != 0
        {
            fail!(
                "{op}: {} weights for a state {:?}",
                weights.len(),
                state.dims()
            );
        }
        let dtype = x.dtype();
        let ways = weights.chunks(per_way).map(|weights| {
            let (biases, projection) = match weights {
                [_, _, a, b, rest @ ..] => (Some((wide(a)?, wide(b)?)), rest.first()),
                _ => (None, weights.get(2)),
            };
            Ok(Way {
                input: wide(weights[0])?,
                output: wide(weights[1])?,
                biases,
                projection: projection.map(|p| wide(p)).transpose()?,
            })
        });
        let x = if batch_first { &x.transpose(0, 1)? } else { x };
        Ok(Self {
            x: wide(x)?,
            ways: ways.collect::<Result<_>>()?,
            directions,
            batch_first,
            dtype,
        })
    }

    /// The outputs of all steps and the last states, of which the first is the output.
    /// `step` gets what the input adds to the gates, `[batch, gates]`, and the states before it.
    fn run<const N: usize>(
        self,
        states: [&Tensor; N],
        step: impl Fn(&Tensor, &[Tensor; N], &Way) -> Result<[Tensor; N]>,
    ) -> Result<(Tensor, [Tensor; N])> {
        let mut y = self.x.clone();
        let mut last: [Vec<Tensor>; N] = std::array::from_fn(|_| Vec::new());
        for (layer, ways) in self.ways.chunks(self.directions).enumerate() {
            let mut outputs = Vec::with_capacity(ways.len());
            for (direction, way) in ways.iter().enumerate() {
                let at = layer * self.directions + direction;
                let (steps, gates) = (y.dim(0)?, way.of_input(&y)?);
                let mut state = states.map(Tensor::clone);
                for state in &mut state {
                    *state = wide(&state.get(at)?)?;
                }
                let mut all = Vec::with_capacity(steps);
                for i in 0..steps {
                    let i = if direction == 0 { i } else { steps - 1 - i };
                    state = step(&gates.get(i)?, &state, way)?;
                    all.push(state[0].clone());
                }
                if direction == 1 {
                    all.reverse();
                }
                outputs.push(stack(&all.iter().collect::<Vec<_>>(), 0)?);
                state
                    .into_iter()
                    .zip(&mut last)
                    .for_each(|(s, last)| last.push(s));
            }
            y = cat(&outputs.iter().collect::<Vec<_>>(), 2)?;
        }
        let y = to_dtype(&y, self.dtype)?;
        let y = if self.batch_first {
            y.transpose(0, 1)?
        } else {
            y
        };
        let mut ends = states.map(Tensor::clone);
        for (end, last) in ends.iter_mut().zip(&last) {
            *end = to_dtype(&stack(&last.iter().collect::<Vec<_>>(), 0)?, self.dtype)?;
        }
        Ok((y, ends))
    }

    fn plain(self, h: &Tensor, f: fn(&Tensor) -> Result<Tensor>) -> Result<(Tensor, Tensor)> {
        let (y, [h]) = self.run([h], |gates, [h], way| {
            Ok([f(&add(gates, &way.of_output(h)?)?)?])
        })?;
        Ok((y, h))
    }
}

/// The tensor in the dtype that is computed in.
fn wide(x: &Tensor) -> Result<Tensor> {
    match is_half(x.dtype()) {
        true => to_dtype(x, DType::F32),
        false => Ok(x.clone()),
    }
}
