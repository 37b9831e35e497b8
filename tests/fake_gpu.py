"""A GPU made of numbers, for whatever measures one."""

from __future__ import annotations

import numpy as np

from archsim.baseline.roofline import estimate
from archsim.config.gpu import load_gpu
from archsim.errors import ConfigError


class FakeWork:
    """As slow as the model says, with a spread of 10 %, at a power of 300 W."""

    def __init__(self, device, step, implementation):
        self.device, self.step = device, step
        launch = "eager" if implementation == "eager" else "graph"
        self.seconds = {
            cache: estimate(device.gpu, step, launch, cache).latency_s for cache in ("warm", "cold")
        }

    def replay_times(self, count, flush):
        spread = np.linspace(0.95, 1.05, count)
        return list(self.seconds["cold" if flush else "warm"] * spread)

    def energy(self, seconds):
        replays = int(np.ceil(seconds / self.seconds["warm"]))
        return (300.0 * replays * self.seconds["warm"], replays) if self.device.counter else None

    def close(self):
        self.device.open -= 1


class FakeDevice:
    """An H100 made of numbers."""

    name = "NVIDIA H100 80GB HBM3"
    conditions = {"torch": "0.0-fake", "driver": "none", "power_limit_w": 700}  # noqa: RUF012
    gpu = load_gpu("h100-sxm")

    def __init__(self, memory=80e9, counter=True, clocks=(1.98e9, 1.97e9), lacks=()):
        self.free_bytes, self.counter, self.lacks = int(memory), counter, lacks
        self.clocks, self.readings, self.open = clocks, 0, 0

    def supports(self, precision):
        return precision not in self.lacks

    def idle_power(self, seconds):
        return 71.5 if self.counter else None

    def clock_hz(self):
        self.readings += 1
        return self.clocks[(self.readings + 1) % 2]

    def prepare(self, step, implementation):
        if implementation == "eager" and "eager" in self.lacks:
            raise ConfigError("no such kernel")
        self.open += 1
        return FakeWork(self, step, implementation)
