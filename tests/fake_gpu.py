"""A GPU made of numbers, for whatever measures one."""

from __future__ import annotations

import numpy as np

from archsim.errors import ConfigError
from archsim.gpu.file import load_gpu
from archsim.gpu.roofline import estimate
from archsim.gpu.token import attention_alone, gpu_token

SLOWER = {"cudnn": 1.0, "flash": 1.6, "efficient": 4.0}
"""Times of the fused kernels over that of the best."""


class FakeWork:
    """As slow as the model says, with a spread of 10 %, at a power of 300 W."""

    def __init__(self, device, seconds):
        self.device, self.seconds = device, seconds

    def replay_times(self, count, flush):
        spread = np.linspace(0.95, 1.05, count)
        return list(self.seconds["cold" if flush else "warm"] * spread)

    def energy(self, seconds):
        replays = int(np.ceil(seconds / self.seconds["warm"]))
        return (300.0 * replays * self.seconds["warm"], replays) if self.device.counter else None

    def close(self):
        self.device.open -= 1


class FakeDevice:
    """An H100 made of numbers; `lacks` are precisions, kernels or ways to run that it has not."""

    name = "NVIDIA H100 80GB HBM3"
    conditions = {"torch": "0.0-fake", "driver": "none", "power_limit_w": 700}  # noqa: RUF012
    gpu = load_gpu("h100-sxm", measured=False)

    def __init__(self, memory=80e9, counter=True, clocks=(1.98e9, 1.97e9), lacks=()):
        self.free_bytes, self.counter, self.lacks = int(memory), counter, lacks
        self.clocks, self.readings, self.open = clocks, 0, 0
        self.bare_power = 68.5 if counter else None

    def supports(self, precision):
        return precision not in self.lacks

    def idle_power(self, seconds):
        return 71.5 if self.counter else None

    def clock_hz(self):
        self.readings += 1
        return self.clocks[(self.readings + 1) % 2]

    def prepare(self, step, implementation, kernel):
        if {implementation, kernel} & set(self.lacks):
            raise ConfigError("no such kernel")
        self.open += 1
        seconds = {}
        for cache in ("warm", "cold"):
            if implementation == "eager":
                seconds[cache] = estimate(self.gpu, step, "eager", cache).latency_s
            elif kernel == "math":
                seconds[cache] = estimate(self.gpu, step, "unfused", cache).latency_s
            else:
                fused = estimate(self.gpu, step, "graph", cache).latency_s
                seconds[cache] = SLOWER[kernel] * fused
        return FakeWork(self, seconds)

    def prepare_token(self, step, shape, part):
        if "token" in self.lacks:
            raise ConfigError("no such model")
        self.open += 1
        cost = gpu_token(self.gpu, "graph", step, shape)
        seconds = {
            "whole": cost.latency_s,
            "rest": cost.rest_s,
            "attention": attention_alone(self.gpu, "graph", step, shape)[0],
        }[part]
        return FakeWork(self, {"warm": seconds, "cold": seconds})
