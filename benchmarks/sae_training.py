"""Throughput of SAE training over the usual loop: autograd, and a DataLoader over a TensorDataset.

    python benchmarks/sae_training.py [--rounds N]

All see the same data, batch and sizes; rounds alternate; the ratio is of medians. `mapped` reads every batch from a
memory-mapped file while it trains. What reading alone takes bounds what several dictionaries could win by sharing it.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from saeft_ray import sae
from saeft_ray.settings import DictionarySettings

SIZES = {"digit world": (9000, 64, 256, 8, 512, 150), "ViT-B/32": (8192, 512, 2048, 32, 1024, 16)}
LARGE = 200_000  # rows of the file from which rows alone are read


class Usual(nn.Module):
    """The same autoencoder as everyone writes it."""

    def __init__(self, d: int, width: int, k: int):
        super().__init__()
        self.k = k
        self.encoder, self.decoder = nn.Linear(d, width, bias=False), nn.Linear(width, d, bias=False)
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        a = self.encoder(x - self.bias)
        values, index = a.topk(self.k, dim=-1)
        return self.decoder(torch.zeros_like(a).scatter(-1, index, values.relu())) + self.bias


def usual(x: torch.Tensor, width: int, k: int, batch: int, steps: int) -> float:
    """Samples a second of the usual loop."""
    model = Usual(x.shape[1], width, k)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x), batch_size=batch, shuffle=True, drop_last=True)
    done, began = 0, time.perf_counter()
    while done < steps:
        for (rows,) in loader:
            rows = nn.functional.normalize(rows, dim=-1)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(rows), rows).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return steps * batch / (time.perf_counter() - began)


def ours(activations: np.ndarray, width: int, k: int, batch: int, steps: int, kept: int) -> float:
    """Samples a second of ours, of rows copied into memory where they take no more than `kept` bytes."""
    settings = DictionarySettings(width=width, k=k, steps=steps, batch_size=batch)
    sae.embedding_rows.KEPT = kept
    began = time.perf_counter()
    sae.train(activations, settings, 0, torch.device("cpu"))
    return steps * batch / (time.perf_counter() - began)


def reading(activations: np.ndarray, batch: int, steps: int) -> float:
    """Samples a second of random rows, read from a memory map and brought to length 1, without any training."""
    sae.embedding_rows.KEPT = 0
    rows = sae.embedding_rows.Rows(activations, DictionarySettings())
    order = np.random.default_rng(0).permutation(len(rows))
    indices = [order[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)]
    began, done = time.perf_counter(), 0
    while done < steps:
        for index in indices[: steps - done]:
            rows.take(index)
            done += 1
    return steps * batch / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{torch.get_num_threads()} threads; samples a second")
    for name, (n, d, width, k, batch, steps) in SIZES.items():
        large = np.random.default_rng(0).standard_normal((LARGE, d)).astype(np.float32)
        x = large[:n]
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "x.npy", large[:, None])
            mapped = np.load(Path(folder) / "x.npy", mmap_mode="r")
            loops = {
                "usual": lambda: usual(torch.from_numpy(x), width, k, batch, steps),  # noqa: B023 - called at once
                "ours": lambda: ours(x[:, None], width, k, batch, steps, 1 << 40),  # noqa: B023
                "mapped": lambda: ours(mapped[:n], width, k, batch, steps, 0),  # noqa: B023
                "reading": lambda: reading(mapped, batch, 20 * steps),  # noqa: B023
            }
            speeds = {loop: [run() for _ in range(1)] for loop, run in loops.items()}
            for _ in range(rounds):
                for loop, run in loops.items():
                    speeds[loop].append(run())
        median = {loop: statistics.median(values[1:]) for loop, values in speeds.items()}
        print(name + "".join(f"   {loop} {speed:.0f}" for loop, speed in median.items()))
        print(f"  ours over usual {median['ours'] / median['usual']:.2f}")
        print(f"  mapped over ours {median['mapped'] / median['ours']:.2f}")
        print(f"  reading takes {median['ours'] / median['reading']:.1%} of a training step's time")


if __name__ == "__main__":
    main()
