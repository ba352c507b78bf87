//! Attention of a few queries, row by row.

use super::flash::{FEW, Job, Output, weights};
use super::isa::{Isa, Kernel};
use super::memory::Narrow;
use super::vmath;

/// All rows that share the keys of one kv head, when they are few.
pub(super) struct Few<'a, 'b, T> {
    pub(super) job: &'a Job<'b, T>,
    pub(super) out: &'a Output<T>,
    pub(super) task: usize,
}

impl<T: Narrow> Kernel for Few<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self { job, out, task } = self;
        let (batch, kv_head) = (task / job.kv_heads, task % job.kv_heads);
        let group = job.heads / job.kv_heads;
        let rows = group * job.queries;
        let (d, d_v, keys) = (job.d, job.d_v, job.keys);
        let place = |row: usize| (kv_head * group + row / job.queries, row % job.queries);
        let mut buffer = vec![0.0f32; d.max(d_v)];
        let mut q = vec![0.0f32; rows * d];
        for (row, q) in q.chunks_exact_mut(d).enumerate() {
            let (head, query) = place(row);
            let source = T::load(job.q.row(batch, head, query, d), &mut buffer);
            for (to, &v) in q.iter_mut().zip(source) {
                *to = v * job.scale;
            }
        }
        let mut scores = vec![0.0f32; rows * keys];
        for key in 0..keys {
            let k = T::load(job.k.row(batch, kv_head, key, d), &mut buffer);
            for row in 0..rows {
                scores[row * keys + key] = vmath::dot::<S>(&q[row * d..(row + 1) * d], k);
            }
        }
        let mut sums = [0.0f32; FEW];
        for row in 0..rows {
            let (head, query) = place(row);
            let scores = &mut scores[row * keys..(row + 1) * keys];
            job.mask_row(batch, head, query, 0, scores);
            let max = vmath::max(scores);
            sums[row] = weights::<S>(scores, max);
        }
        let mut values = vec![0.0f32; rows * d_v];
        for key in 0..keys {
            let v = T::load(job.v.row(batch, kv_head, key, d_v), &mut buffer);
            for row in 0..rows {
                let weight = scores[row * keys + key];
                for (to, &v) in values[row * d_v..(row + 1) * d_v].iter_mut().zip(v) {
                    *to = S::fma(weight, v, *to);
                }
            }
        }
        for row in 0..rows {
            let scale = if sums[row] == 0.0 {
                0.0
            } else {
                1.0 / sums[row]
            };
            let values = &mut values[row * d_v..(row + 1) * d_v];
            values.iter_mut().for_each(|v| *v *= scale);
            let (head, query) = place(row);
            // SAFETY: this task alone has the heads of this kv head.
            unsafe { out.store(job.output_at(batch, head, query), values) };
        }
    }
}
