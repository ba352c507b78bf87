//! Attention in one pass over the keys, without the matrix of scores.
//!
//! Many queries: blocks of queries against blocks of keys, the softmax kept as a running maximum
//! and sum. A few queries (decoding): the rows that share keys are taken together, so that keys and
//! values are read once. Keys and values are read where they lie, a cache's view included.

use candle_core::Tensor;

use super::Result;
use super::attention::Attention;
use super::decode::Few;
use super::isa::{Isa, Kernel, dispatch};
use super::linalg::{Matrix, gemm};
use super::memory::{Narrow, tensor, with_storage, written};
use super::vmath;

/// Queries in a block.
const QUERIES: usize = 128;
/// Keys in a block.
const KEYS: usize = 512;
/// Up to this many rows that share keys are multiplied row by row.
pub(super) const FEW: usize = 8;

/// A four-dimensional tensor's storage, with a last stride of 1.
pub(super) struct View<'a, T> {
    data: &'a [T],
    start: usize,
    strides: [usize; 4],
}

impl<'a, T> View<'a, T> {
    fn new(data: &'a [T], x: &Tensor) -> Self {
        let s = x.stride();
        Self {
            data,
            start: x.layout().start_offset(),
            strides: [s[0], s[1], s[2], s[3]],
        }
    }

    #[inline(always)]
    fn at(&self, batch: usize, head: usize, row: usize) -> usize {
        self.start + batch * self.strides[0] + head * self.strides[1] + row * self.strides[2]
    }

    #[inline(always)]
    pub(super) fn row(&self, batch: usize, head: usize, row: usize, width: usize) -> &'a [T] {
        let at = self.at(batch, head, row);
        &self.data[at..at + width]
    }
}

pub(super) enum Mask<'a, T> {
    None,
    Causal,
    Keep(View<'a, u8>),
    Add(View<'a, T>),
}

pub(super) struct Job<'a, T> {
    pub(super) q: View<'a, T>,
    pub(super) k: View<'a, T>,
    pub(super) v: View<'a, T>,
    pub(super) mask: Mask<'a, T>,
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) d: usize,
    pub(super) d_v: usize,
    pub(super) scale: f32,
}

/// The output, `[batch, queries, heads, d_v]`, written by several tasks at once.
pub(super) struct Output<T>(*mut T, usize);

// SAFETY: the tasks write disjoint rows, each task those of its own heads and queries.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T: Narrow> Output<T> {
    /// Rounds one row into its place.
    ///
    /// # Safety
    /// No other task may write the same row.
    #[inline(always)]
    pub(super) unsafe fn store(&self, at: usize, row: &[f32]) {
        assert!(at + row.len() <= self.1);
        // SAFETY: in bounds by the assert, and not shared by the contract.
        T::store(row, unsafe {
            std::slice::from_raw_parts_mut(self.0.add(at), row.len())
        });
    }
}

pub(super) fn attend<T: Narrow>(call: &Attention) -> Result<Tensor> {
    let rows = |x: &Tensor| -> Result<Tensor> {
        Ok(if x.stride()[3] == 1 || x.dims()[3] == 1 {
            x.clone()
        } else {
            x.contiguous()?
        })
    };
    let (q, k, v) = (rows(&call.q)?, rows(&call.k)?, rows(&call.v)?);
    let (qd, vd) = (q.dims().to_vec(), v.dims().to_vec());
    with_storage::<T, _>(&q, |qs, _| {
        with_storage::<T, _>(&k, |ks, _| {
            with_storage::<T, _>(&v, |vs, _| {
                let run = |mask: Mask<'_, T>| {
                    let job = Job {
                        q: View::new(qs, &q),
                        k: View::new(ks, &k),
                        v: View::new(vs, &v),
                        mask,
                        batch: qd[0],
                        heads: qd[1],
                        kv_heads: vd[1],
                        queries: qd[2],
                        keys: vd[2],
                        d: qd[3],
                        d_v: vd[3],
                        scale: call.scale as f32,
                    };
                    job.run()
                };
                match &call.mask {
                    None if call.is_causal => run(Mask::Causal),
                    None => run(Mask::None),
                    Some(mask) if mask.dtype() == candle_core::DType::U8 => {
                        with_storage::<u8, _>(mask, |m, _| run(Mask::Keep(View::new(m, mask))))
                    }
                    Some(mask) => {
                        with_storage::<T, _>(mask, |m, _| run(Mask::Add(View::new(m, mask))))
                    }
                }
            })
        })
    })
}

impl<T: Narrow> Job<'_, T> {
    fn run(&self) -> Result<Tensor> {
        let count = self.batch * self.queries * self.heads * self.d_v;
        let out = written(count, |out: &mut [T]| {
            let out = Output(out.as_mut_ptr(), out.len());
            let group = self.heads / self.kv_heads;
            if group * self.queries <= FEW {
                let tasks = self.batch * self.kv_heads;
                let work = tasks * self.keys * self.d;
                each_task(tasks, work, &|task| {
                    dispatch(Few {
                        job: self,
                        out: &out,
                        task,
                    })
                });
            } else {
                let blocks = self.queries.div_ceil(QUERIES);
                let tasks = self.batch * self.heads * blocks;
                let work = tasks * QUERIES * self.keys * self.d;
                each_task(tasks, work, &|task| self.block(task, blocks, &out));
            }
        });
        let out = tensor(out, &[self.batch, self.queries, self.heads, self.d_v][..])?;
        Ok(out.transpose(1, 2)?)
    }

    pub(super) fn output_at(&self, batch: usize, head: usize, query: usize) -> usize {
        ((batch * self.queries + query) * self.heads + head) * self.d_v
    }

    /// One block of queries of one head.
    fn block(&self, task: usize, blocks: usize, out: &Output<T>) {
        let (batch, rest) = (task / (self.heads * blocks), task % (self.heads * blocks));
        // The last blocks of causal attention are the longest: they go first.
        let (head, block) = (rest / blocks, blocks - 1 - rest % blocks);
        let kv_head = head / (self.heads / self.kv_heads);
        let first = block * QUERIES;
        let rows = QUERIES.min(self.queries - first);
        let mut state = Block::new(self, rows);
        dispatch(Gather {
            job: self,
            at: (batch, head, first),
            q: &mut state.q,
        });
        let end = match self.mask {
            Mask::Causal => (first + rows).min(self.keys),
            _ => self.keys,
        };
        for start in (0..end).step_by(KEYS) {
            let keys = KEYS.min(end - start);
            if self.hidden(batch, head, first..first + rows, start..start + keys) {
                continue;
            }
            state.scores(self, (batch, kv_head, start), keys);
            dispatch(Softmax {
                job: self,
                state: &mut state,
                at: (batch, head, first),
                start,
                keys,
            });
            state.values(self, (batch, kv_head, start), keys);
        }
        for row in 0..rows {
            let sum = state.sums[row];
            let scale = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            let values = &mut state.out[row * self.d_v..(row + 1) * self.d_v];
            values.iter_mut().for_each(|v| *v *= scale);
            // SAFETY: this task alone has this head and query.
            unsafe { out.store(self.output_at(batch, head, first + row), values) };
        }
    }

    /// Whether a boolean mask hides a whole block.
    fn hidden(
        &self,
        batch: usize,
        head: usize,
        mut queries: std::ops::Range<usize>,
        keys: std::ops::Range<usize>,
    ) -> bool {
        let Mask::Keep(mask) = &self.mask else {
            return false;
        };
        queries.all(|query| {
            let at = mask.at(batch, head, query);
            let stride = mask.strides[3];
            if stride == 1 {
                let mut seen = mask.data[at + keys.start..at + keys.end].iter();
                seen.all(|&keep| keep == 0)
            } else {
                keys.clone().all(|key| mask.data[at + key * stride] == 0)
            }
        })
    }

    /// Masks the scores of one query against keys from `start` on.
    #[inline(always)]
    pub(super) fn mask_row(
        &self,
        batch: usize,
        head: usize,
        query: usize,
        start: usize,
        scores: &mut [f32],
    ) {
        match &self.mask {
            Mask::None => {}
            Mask::Causal => {
                let seen = (query + 1).saturating_sub(start).min(scores.len());
                scores[seen..].fill(f32::NEG_INFINITY);
            }
            Mask::Keep(mask) => {
                let (at, stride) = (mask.at(batch, head, query), mask.strides[3]);
                if stride == 1 {
                    let kept = &mask.data[at + start..at + start + scores.len()];
                    for (score, &keep) in scores.iter_mut().zip(kept) {
                        *score = if keep != 0 { *score } else { f32::NEG_INFINITY };
                    }
                } else {
                    for (i, score) in scores.iter_mut().enumerate() {
                        if mask.data[at + (start + i) * stride] == 0 {
                            *score = f32::NEG_INFINITY;
                        }
                    }
                }
            }
            Mask::Add(mask) => {
                let (at, stride) = (mask.at(batch, head, query), mask.strides[3]);
                if stride == 1 {
                    let added = &mask.data[at + start..at + start + scores.len()];
                    for (score, &more) in scores.iter_mut().zip(added) {
                        *score += more.wide();
                    }
                } else {
                    for (i, score) in scores.iter_mut().enumerate() {
                        *score += mask.data[at + (start + i) * stride].wide();
                    }
                }
            }
        }
    }
}

fn each_task(tasks: usize, work: usize, f: &(dyn Fn(usize) + Sync)) {
    if work < 32 * 1024 {
        (0..tasks).for_each(f);
    } else {
        super::map::tasks(tasks, f);
    }
}

/// The running state of one block of queries.
struct Block {
    rows: usize,
    q: Vec<f32>,
    scores: Vec<f32>,
    /// Keys or values widened to `f32`; empty for `f32`.
    wide: Vec<f32>,
    max: Vec<f32>,
    sums: Vec<f32>,
    out: Vec<f32>,
}

impl Block {
    fn new<T: Narrow>(job: &Job<'_, T>, rows: usize) -> Self {
        let keys = KEYS.min(job.keys);
        let half = T::DTYPE != candle_core::DType::F32;
        Self {
            rows,
            q: vec![0.0; rows * job.d],
            scores: vec![0.0; rows * keys],
            wide: vec![0.0; if half { keys * job.d.max(job.d_v) } else { 0 }],
            max: vec![f32::NEG_INFINITY; rows],
            sums: vec![0.0; rows],
            out: vec![0.0; rows * job.d_v],
        }
    }

    fn scores<T: Narrow>(&mut self, job: &Job<'_, T>, at: (usize, usize, usize), keys: usize) {
        let (data, offset, stride) = block_of(&job.k, at, keys, job.d, &mut self.wide);
        let out = Matrix::packed(self.rows, keys);
        let q = Matrix::packed(self.rows, job.d);
        let k = Matrix::columns(keys, stride, offset..offset + job.d).t();
        gemm(
            &mut self.scores,
            out,
            false,
            &self.q,
            q,
            data,
            k,
            1.0,
            false,
        );
    }

    fn values<T: Narrow>(&mut self, job: &Job<'_, T>, at: (usize, usize, usize), keys: usize) {
        let (data, offset, stride) = block_of(&job.v, at, keys, job.d_v, &mut self.wide);
        let out = Matrix::packed(self.rows, job.d_v);
        let p = Matrix::packed(self.rows, keys);
        let v = Matrix::columns(keys, stride, offset..offset + job.d_v);
        gemm(
            &mut self.out,
            out,
            true,
            &self.scores,
            p,
            data,
            v,
            1.0,
            false,
        );
    }
}

/// A block of keys or values as `f32`: slice, offset and row stride.
fn block_of<'a, T: Narrow>(
    view: &View<'a, T>,
    (batch, head, start): (usize, usize, usize),
    keys: usize,
    width: usize,
    wide: &'a mut [f32],
) -> (&'a [f32], usize, usize) {
    if T::DTYPE == candle_core::DType::F32 {
        // `load` gives `f32` elements back as they are.
        return (
            T::load(view.data, wide),
            view.at(batch, head, start),
            view.strides[2],
        );
    }
    for key in 0..keys {
        let row = view.row(batch, head, start + key, width);
        super::memory::widen(row, &mut wide[key * width..(key + 1) * width]);
    }
    (wide, 0, width)
}

/// Reads and scales a block of queries.
struct Gather<'a, 'b, T> {
    job: &'a Job<'b, T>,
    at: (usize, usize, usize),
    q: &'a mut [f32],
}

impl<T: Narrow> Kernel for Gather<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let (batch, head, first) = self.at;
        let job = self.job;
        let mut buffer = vec![0.0f32; job.d];
        for (i, out) in self.q.chunks_exact_mut(job.d).enumerate() {
            let row = T::load(job.q.row(batch, head, first + i, job.d), &mut buffer);
            for (to, &v) in out.iter_mut().zip(row) {
                *to = v * job.scale;
            }
        }
    }
}

/// Turns a block of scores into weights and rescales what was summed before.
struct Softmax<'a, 'b, T> {
    job: &'a Job<'b, T>,
    state: &'a mut Block,
    at: (usize, usize, usize),
    start: usize,
    keys: usize,
}

impl<T: Narrow> Kernel for Softmax<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self {
            job,
            state,
            at: (batch, head, first),
            start,
            keys,
        } = self;
        for row in 0..state.rows {
            let scores = &mut state.scores[row * keys..(row + 1) * keys];
            job.mask_row(batch, head, first + row, start, scores);
            let before = state.max[row];
            let block = vmath::max(scores);
            let max = if block > before { block } else { before };
            let rescale = if before == max {
                1.0
            } else {
                vmath::exp::<S>(before - max)
            };
            state.max[row] = max;
            state.sums[row] = state.sums[row] * rescale + weights::<S>(scores, max);
            if rescale != 1.0 {
                for v in &mut state.out[row * job.d_v..(row + 1) * job.d_v] {
                    *v *= rescale;
                }
            }
        }
    }
}

/// `e^(score - max)` in place, and their sum. Without any key to see, zeros.
#[inline(always)]
pub(super) fn weights<S: Isa>(scores: &mut [f32], max: f32) -> f32 {
    if max == f32::NEG_INFINITY {
        // All hidden, unless NaN, which the maximum ignores.
        let value = if vmath::sum(scores).is_nan() {
            f32::NAN
        } else {
            0.0
        };
        scores.fill(value);
        return value;
    }
    for score in scores.iter_mut() {
        *score = vmath::exp::<S>(*score - max);
    }
    vmath::sum(scores)
}
