"""Throughput of SAE training over the usual loop: autograd, and a DataLoader over a TensorDataset.

    python benchmarks/sae_training.py [--rounds N]

Both see the same data, batch and sizes; rounds alternate; the ratio is of medians.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from saeft_ray import sae
from saeft_ray.config import DictionarySettings

SIZES = {"digit world": (9000, 64, 256, 8, 512, 150), "ViT-B/32": (8192, 512, 2048, 32, 1024, 16)}


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


def ours(x: torch.Tensor, width: int, k: int, batch: int, steps: int) -> float:
    """Samples a second of ours."""
    settings = DictionarySettings(width=width, k=k, steps=steps, batch_size=batch)
    activations = x.numpy()[:, None]
    began = time.perf_counter()
    sae.train(activations, settings, 0, torch.device("cpu"))
    return steps * batch / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{torch.get_num_threads()} threads")
    for name, (n, d, width, k, batch, steps) in SIZES.items():
        x = torch.from_numpy(np.random.default_rng(0).standard_normal((n, d)).astype(np.float32))
        speeds: dict[str, list[float]] = {"usual": [], "ours": []}
        for _ in range(rounds + 1):
            speeds["usual"].append(usual(x, width, k, batch, steps))
            speeds["ours"].append(ours(x, width, k, batch, steps))
        median = {loop: statistics.median(values[1:]) for loop, values in speeds.items()}
        ratio = median["ours"] / median["usual"]
        print(f"{name:12s} usual {median['usual']:9.0f}/s   ours {median['ours']:9.0f}/s   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
