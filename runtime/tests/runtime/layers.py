"""Writes layers.txt: what PyTorch's layers give for inputs that layers.rs makes in the same way.

Run it with torch installed: `python layers.py > layers.txt`.
"""

import math

import torch
import torch.nn.functional as F


def values(shape: tuple[int, ...], a: int, b: int, m: int, dtype: torch.dtype) -> torch.Tensor:
    """((i * a + b) mod m) / m - 0.5, in float64, rounded once."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (((i * a + b) % m) / m - 0.5).reshape(shape).to(dtype)


def cases(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """One output per layer."""

    def v(shape: tuple[int, ...], a: int, b: int, m: int) -> torch.Tensor:
        return values(shape, a, b, m, dtype)

    wide = torch.promote_types(dtype, torch.float32)
    x, w, b = v((2, 6), 7, 3, 11) * 4, v((6,), 5, 1, 7) + 1, v((6,), 3, 2, 5)
    h = x.to(wide)
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
    matrix, vector = v((3, 6), 13, 5, 17), v((3,), 3, 2, 5)
    c1, k1, b1 = v((1, 4, 6), 7, 3, 11), v((4, 2, 3), 5, 1, 13), v((4,), 3, 2, 5)
    c2, k2, b2 = v((1, 2, 5, 6), 7, 3, 23), v((2, 2, 3, 2), 5, 1, 13), v((2,), 3, 2, 5)
    c, p = v((2, 4, 3), 7, 3, 11), [v((4,), a, 1, 7) for a in (3, 2, 5, 4)]
    return {
        "layer_norm": F.layer_norm(x, (6,), w, b, 1e-5),
        "layer_norm_plain": F.layer_norm(x.reshape(2, 2, 3), (2, 3), None, None, 1e-5),
        "rms_norm": w * h.to(dtype),
        "rms_norm_f32_scale": F.rms_norm(x, (6,), w, 1e-6),
        "rms_norm_unit_offset": (h * (1.0 + w.to(wide))).to(dtype),
        "linear": F.linear(x, matrix, vector),
        "linear_transposed": torch.addmm(vector, x, matrix.t().contiguous()),
        "conv1d": F.conv1d(c1, k1, b1, stride=2, padding=1, dilation=2, groups=2),
        "conv2d": F.conv2d(c2, k2, b2, stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        "batch_norm": F.batch_norm(c, p[0], p[1] + 1, p[2], p[3], False, 0.1, 1e-5),
        "group_norm": F.group_norm(c, 2, p[2], p[3], 1e-5),
    }


def main() -> None:
    """Prints name, dtype, shape and values, one case per line."""
    print(f"# torch {torch.__version__.split('+')[0]}, layers.py")
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for name, out in cases(dtype).items():
            shape = ",".join(map(str, out.shape))
            row = " ".join(repr(v) for v in out.double().flatten().tolist())
            print(name, str(dtype).removeprefix("torch."), shape, row)


if __name__ == "__main__":
    main()
