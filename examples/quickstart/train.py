"""Trains the quickstart's digit classifier and records it.

In: scikit-learn's handwritten digits (1797 grey images of 8 x 8 pixels, values 0 to 16).
Out, in `model/` beside this file: the manifest, the weights, the goldens, and the test images.

    PYTHONPATH=recorder/src OMP_NUM_THREADS=1 python examples/quickstart/train.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

from pycandle import GoldenRecorder

SEED, EPOCHS, BATCH, GOLDEN_IMAGES = 0, 40, 64, 4
FOLDER = Path(__file__).resolve().parent / "model"


class Digits(nn.Module):
    """Two convolutions and a linear layer; images `[batch, 1, 8, 8]` to logits `[batch, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = F.max_pool2d(F.relu(self.norm(self.conv1(images))), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2)
        return self.head(hidden.flatten(1))


def train(images: torch.Tensor, labels: torch.Tensor) -> Digits:
    """A classifier trained on `images` in [0, 1]."""
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Trains on four fifths of the images, keeps the rest for the test, and records the model."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target
    )
    as_images = [torch.tensor(x, dtype=torch.float32).unsqueeze(1) / 16 for x in (train_x, test_x)]
    model = train(as_images[0], torch.tensor(train_y))

    recorder = GoldenRecorder(FOLDER, seed=SEED)
    recorder.record(model, as_images[1][:GOLDEN_IMAGES], dynamic_shapes={"images": {0: "batch"}})
    recorder.save("digits", weights=True)
    pixels = torch.tensor(test_x, dtype=torch.uint8)
    tests = {"images": pixels, "labels": torch.tensor(test_y, dtype=torch.uint8)}
    save_file(tests, FOLDER / "digits_test.safetensors")
    with torch.no_grad():
        right = (model(as_images[1]).argmax(-1) == torch.tensor(test_y)).sum().item()
    print(f"PyTorch: {right} of {len(test_y)} test images right")


if __name__ == "__main__":
    main()
