"""How often intervals of the mean hold it: `python benchmarks/coverage.py --output benchmarks/coverage.json`.

Outcomes are one number a seed from 0 to 1, as exact match in the transfer region: often near one of two
values. Methods are compared over a family of such distributions, and over differences of two arms (from -1 to
1). Those that resample, or go through a grid, get a quarter of the trials. A minute and a half on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import stats
from tabulate import tabulate

from data_builders.sampling import stream
from hf_lgt.evaluation.statistics import (
    PSEUDO_OBSERVATIONS,
    holm,
    mean_interval,
    paired_difference,
    permutation_test,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
Pair = tuple[Array, Array]
PairDraw = Callable[[np.random.Generator, tuple[int, int]], Pair]
Ends = tuple[Array, Array]
Found = dict[str, dict[str, dict[str, dict[str, list[float]]]]]

SEEDS = (3, 5, 8, 16)
LEVEL = 0.95
Z = float(stats.norm.ppf(0.5 + LEVEL / 2))
RESAMPLES = 400
SLOW = 4
"""part of the trials that slow methods get"""
CHOSEN = "pseudo-observations 1.5, normal"
PAIRED = "of the two means"


# Distributions: name -> (how it is drawn, its mean).


def near(mean: float, concentration: float) -> Draw:
    """A beta distribution of this mean; a larger concentration is narrower."""
    return lambda rng, shape: rng.beta(mean * concentration, (1 - mean) * concentration, shape)


def either(low: Draw, high: Draw, weight: float) -> Draw:
    """The second with probability `weight`, or else the first."""
    return lambda rng, shape: np.where(rng.random(shape) < weight, high(rng, shape), low(rng, shape))


def outcomes() -> dict[str, tuple[Draw, float]]:
    """The family, on 0..1."""
    family: dict[str, tuple[Draw, float]] = {}
    for p in np.arange(1, 20) / 20:
        family[f"Bernoulli {p:.2f}"] = ((lambda rng, shape, p=p: (rng.random(shape) < p) * 1.0), float(p))
    for low, high, narrow in ((1 / 31, 30 / 31, 31), (0.02, 0.6, 100), (0.35, 0.95, 100)):
        for w in np.arange(1, 10) / 10:
            draw = either(near(low, narrow), near(high, narrow), float(w))
            family[f"clusters {low:.2f} and {high:.2f}, {w:.1f} high"] = draw, float(w * high + (1 - w) * low)
    for a, b in ((0.3, 0.3), (2, 5), (5, 1), (1, 1)):
        family[f"beta {a}, {b}"] = near(a / (a + b), a + b), a / (a + b)
    family["tight 0.98"] = near(0.98, 50), 0.98
    family["tight 0.50"] = near(0.5, 275), 0.5
    for low in (0.02, 0.3):
        for failing in (0.1, 0.2):
            draw = either(near(low, 100), near(0.985, 200), 1 - failing)
            family[f"0.98, {failing:.1f} fail at {low:.2f}"] = draw, (1 - failing) * 0.985 + failing * low
    return family


def differences() -> dict[str, tuple[PairDraw, float]]:
    """Joint and alone: alone near 0, at most half of joint's, drawn as joint, or
    bimodal.
    """
    family: dict[str, tuple[PairDraw, float]] = {}
    sometimes = either(near(0.02, 100), near(0.6, 100), 0.3)
    for name, (joint, mean) in outcomes().items():

        def alone_fails(rng: np.random.Generator, shape: tuple[int, int], joint: Draw = joint) -> Pair:
            return joint(rng, shape), rng.beta(1, 40, shape)

        def correlated(rng: np.random.Generator, shape: tuple[int, int], joint: Draw = joint) -> Pair:
            both = joint(rng, shape)
            return both, both * rng.beta(2, 2, shape) / 2

        def alike(rng: np.random.Generator, shape: tuple[int, int], joint: Draw = joint) -> Pair:
            return joint(rng, shape), joint(rng, shape)

        def bimodal(rng: np.random.Generator, shape: tuple[int, int], joint: Draw = joint) -> Pair:
            return joint(rng, shape), sometimes(rng, shape)

        family[f"{name}; alone near 0"] = alone_fails, mean - 1 / 41
        family[f"{name}; alone correlated"] = correlated, 0.75 * mean
        family[f"{name}; alone alike"] = alike, 0.0
        family[f"{name}; alone 0.02 or 0.60"] = bimodal, mean - 0.7 * 0.02 - 0.3 * 0.6
    return family


# Methods: of values [T, n] on 0..1, the lower and upper ends [T].


def _resampled(x: Array) -> Array:
    """Means of resamples, sorted, [T, R]."""
    n = x.shape[1]
    counts = stream(0, "coverage, resamples", n).multinomial(n, [1 / n] * n, RESAMPLES)
    return np.sort(x @ counts.T / n, axis=1)


def percentile_bootstrap(x: Array) -> Ends:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(_resampled(x), [tail, 1 - tail], axis=1)
    return low, high


def bca_bootstrap(x: Array) -> Ends:
    """Efron's bias-corrected and accelerated bootstrap; of equal values it is their value."""
    n, means, mean = x.shape[1], _resampled(x), x.mean(axis=1, keepdims=True)
    below = ((means < mean - 1e-12).sum(axis=1) + (means <= mean + 1e-12).sum(axis=1)) / 2 / RESAMPLES
    bias = stats.norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    left_out = (mean * n - x) / (n - 1)
    apart = left_out.mean(axis=1, keepdims=True) - left_out
    squares = (apart**2).sum(axis=1)
    skew = np.where(squares > 1e-18, (apart**3).sum(axis=1) / (6 * np.maximum(squares, 1e-18) ** 1.5), 0.0)
    ends = []
    for z in (-Z, Z):
        share = stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z)))
        at = np.clip(np.round(share * (RESAMPLES - 1)).astype(int), 0, RESAMPLES - 1)
        ends.append(np.take_along_axis(means, at[:, None], axis=1)[:, 0])
    return ends[0], ends[1]


def student(x: Array) -> Ends:
    n = x.shape[1]
    half = stats.t.ppf(0.5 + LEVEL / 2, n - 1) * x.std(axis=1, ddof=1) / math.sqrt(n)
    return np.clip(x.mean(axis=1) - half, 0, 1), np.clip(x.mean(axis=1) + half, 0, 1)


def pseudo_observations(each: float, *, normal: bool) -> Callable[[Array], Ends]:
    """Student's or the normal interval with so many more observations at 0 and as many at 1."""

    def ends(x: Array) -> Ends:
        n = x.shape[1] + 2 * each
        mean = (x.sum(axis=1) + each) / n
        squares = ((x - mean[:, None]) ** 2).sum(axis=1) + each * (mean**2 + (1 - mean) ** 2)
        factor = Z if normal else stats.t.ppf(0.5 + LEVEL / 2, n - 1)
        half = factor * np.sqrt(squares / (n - 1) / n)
        return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)

    return ends


def wilson(x: Array) -> Ends:
    """Wilson's on the mean, as if it were a share: of values on 0..1 the variance is at most m (1 - m)."""
    n, mean = x.shape[1], x.mean(axis=1)
    centre, scale = mean + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * np.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return (centre - half) / scale, (centre + half) / scale


def shrunk_variance(weight: float, shift: float) -> Callable[[Array], Ends]:
    """Student's with the variance drawn towards m (1 - m), as by `weight` more observations."""

    def ends(x: Array) -> Ends:
        n = x.shape[1]
        drawn = (x.sum(axis=1) + shift / 2) / (n + shift)
        variance = (n - 1) * x.var(axis=1, ddof=1) + weight * drawn * (1 - drawn)
        variance /= n - 1 + weight
        half = stats.t.ppf(0.5 + LEVEL / 2, n - 1 + weight) * np.sqrt(variance / n)
        return np.clip(x.mean(axis=1) - half, 0, 1), np.clip(x.mean(axis=1) + half, 0, 1)

    return ends


def dirichlet(weight: float) -> Callable[[Array], Ends]:
    """Quantiles of a mean with Dirichlet weights over the values and `weight` observations at the bound.

    With 1 it is Gaffke's bound (2005) on either side, of Bernoulli outcomes that of Clopper and Pearson.
    """

    def ends(x: Array) -> Ends:
        n = x.shape[1]
        drawn = stream(0, "coverage, dirichlet", n).dirichlet([1.0] * n + [weight], RESAMPLES)
        tail = (1 - LEVEL) / 2
        low = np.quantile(np.sort(x, axis=1) @ drawn[:, :n].T, tail, axis=1)
        high = np.quantile(np.sort(1 - x, axis=1) @ drawn[:, :n].T, tail, axis=1)
        return low, 1 - high

    return ends


def anderson(x: Array) -> Ends:
    """Anderson (1969), from the band of Dvoretzky, Kiefer and Wolfowitz with Massart's constant."""
    n = x.shape[1]
    band = math.sqrt(math.log(2 / (1 - LEVEL)) / (2 * n))

    def low(values: Array) -> Array:
        # the mean is the integral of 1 - F, and F is at most the empirical one and the band
        steps = np.diff(np.sort(values, axis=1), axis=1, prepend=0.0)
        above = np.maximum(0.0, 1 - np.arange(n) / n - band)
        return np.asarray(steps @ above)

    return low(x), 1 - low(1 - x)


def betting(x: Array) -> Ends:
    """The hedged betting interval of Waudby-Smith and Ramdas (2024), over a grid of 101 means."""
    n, alpha = x.shape[1], 1 - LEVEL
    grid = np.linspace(0, 1, 101)
    up, down = np.zeros((2, len(x), len(grid)))
    total, spread = np.full(len(x), 0.5), np.full(len(x), 0.25)
    for t in range(n):
        variance = spread / (t + 1)
        bet = np.sqrt(2 * math.log(2 / alpha) / (n * variance))[:, None]
        value = x[:, t : t + 1]
        up += np.log1p(np.minimum(bet, 0.5 / np.maximum(grid, 1e-9)) * (value - grid))
        down += np.log1p(-np.minimum(bet, 0.5 / np.maximum(1 - grid, 1e-9)) * (value - grid))
        total += x[:, t]
        spread += (x[:, t] - total / (t + 2)) ** 2
    held = np.maximum(up, down) - math.log(2) < math.log(1 / alpha)
    first, last = held.argmax(axis=1), len(grid) - 1 - held[:, ::-1].argmax(axis=1)
    # the grid is coarse: ends lie between a mean that is held and the next that is not
    return grid[np.maximum(first - 1, 0)], grid[np.minimum(last + 1, len(grid) - 1)]


METHODS: dict[str, Callable[[Array], Ends]] = {
    "percentile bootstrap": percentile_bootstrap,
    "BCa bootstrap": bca_bootstrap,
    "Student's t, clipped": student,
    "pseudo-observations 0.5, t": pseudo_observations(0.5, normal=False),
    "pseudo-observations 1, t": pseudo_observations(1, normal=False),
    "pseudo-observations 1, normal": pseudo_observations(1, normal=True),
    CHOSEN: pseudo_observations(PSEUDO_OBSERVATIONS, normal=True),
    "pseudo-observations 2, normal": pseudo_observations(2, normal=True),
    "Wilson on the mean": wilson,
    "variance shrunk, weight 1": shrunk_variance(1, 1),
    "variance shrunk, weight 2": shrunk_variance(2, 2),
    "Gaffke": dirichlet(1),
    "Gaffke, weight 0.75": dirichlet(0.75),
    "Anderson": anderson,
    "hedged betting": betting,
}


SLOW_METHODS = {
    "percentile bootstrap",
    "BCa bootstrap",
    "Gaffke",
    "Gaffke, weight 0.75",
    "hedged betting",
}


def is_practical(name: str) -> bool:
    """Whether widths of a distribution count: all but outcomes that are 0 or 1 alone."""
    return not name.startswith("Bernoulli")


def paired(first: Array, second: Array) -> Ends:
    """`paired_difference` of many pairs [T, n]."""
    n = first.shape[1]
    a, b = first.mean(axis=1), second.mean(axis=1)
    (a1, a2), (b1, b2) = METHODS[CHOSEN](first), METHODS[CHOSEN](second)
    spread = first.std(axis=1) * second.std(axis=1)
    common = ((first - a[:, None]) * (second - b[:, None])).mean(axis=1)
    r = np.divide(common, spread, out=np.zeros_like(common), where=spread > 0)
    r *= n / (n + 2 * PSEUDO_OBSERVATIONS)
    down, up = (
        np.sqrt(np.maximum(0, x**2 + y**2 - 2 * r * x * y)) for x, y in ((a - a1, b2 - b), (a2 - a, b - b1))
    )
    return np.maximum(-1, a - b - down), np.minimum(1, a - b + up)


def simulated(trials: int) -> Found:
    """Kind of value -> method -> seeds -> distribution -> coverage and median width."""
    found: Found = {}
    for n in SEEDS:
        for name, (draw, mean) in outcomes().items():
            values = draw(stream(0, "coverage", "outcomes", n, name), (trials, n))
            for method, ends in METHODS.items():
                few = values[: trials // SLOW] if method in SLOW_METHODS else values
                _note(found, "outcomes", method, n, name, ends(few), mean)
        for name, (both, mean) in differences().items():
            first, second = both(stream(0, "coverage", "differences", n, name), (trials, n))
            scaled = (first - second + 1) / 2
            for method, ends in METHODS.items():
                low, high = ends(scaled[: trials // SLOW] if method in SLOW_METHODS else scaled)
                _note(found, "differences", method, n, name, (2 * low - 1, 2 * high - 1), mean)
            _note(found, "differences", PAIRED, n, name, paired(first, second), mean)
    _check()
    return found


def _note(found: Found, kind: str, method: str, n: int, name: str, ends: Ends, mean: float) -> None:
    low, high = ends
    hit = float(((low <= mean + 1e-9) & (mean - 1e-9 <= high)).mean())
    by_name = found.setdefault(kind, {}).setdefault(method, {}).setdefault(str(n), {})
    by_name[name] = [round(hit, 4), round(float(np.median(high - low)), 3)]


def _check() -> None:
    """The vectorised forms are `mean_interval` and `paired_difference`."""
    rng = stream(0, "coverage, check")
    first, second = near(0.4, 2)(rng, (20, 6)), near(0.1, 2)(rng, (20, 6))
    for i, (single, both) in enumerate(
        zip(*map(_columns, (METHODS[CHOSEN](first), paired(first, second))), strict=True)
    ):
        assert np.allclose(single, mean_interval(first[i].tolist())), first[i]
        assert np.allclose(both, paired_difference(first[i].tolist(), second[i].tolist())[1]), first[i]


def _columns(ends: Ends) -> Array:
    return np.stack(ends, axis=1)


def exact(n: int) -> float:
    """Least coverage of the chosen method over Bernoulli outcomes of p in 0.001..0.999, not simulated."""
    p = np.arange(1, 1000)[:, None] / 1000
    of = np.array([mean_interval([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)])
    hit = (of[:, 0] <= p) & (p <= of[:, 1])
    return float((stats.binom.pmf(np.arange(n + 1), n, p) * hit).sum(axis=1).min())


def permutation_rates(trials: int) -> dict[str, dict[str, float]]:
    """Share of paired permutation tests with p <= 0.05: alone and adjusted, without and with a difference.

    Size: both arms alike. Any of 3: at least one rejected of three comparisons, all without a difference,
    that share the arm alone. Power: joint 0.02 or 0.60 (0.8 high), alone near 0.
    """
    rates: dict[str, dict[str, float]] = {}
    draws = {"Bernoulli 0.50": outcomes()["Bernoulli 0.50"][0], "uniform": near(0.5, 2.0)}
    draws["clusters"] = either(near(0.02, 100), near(0.6, 100), 0.5)
    gaining = either(near(0.02, 100), near(0.6, 100), 0.8)
    for n in (5, 8):
        for name, draw in draws.items():
            rng, single, plain, adjusted = stream(0, "permutation", n, name), 0, 0, 0
            for _ in range(trials):
                alone = draw(rng, (1, n))[0]
                p = [permutation_test(draw(rng, (1, n))[0].tolist(), alone.tolist()) for _ in range(3)]
                single += p[0] <= 0.05
                plain += min(p) <= 0.05
                adjusted += min(holm(p)) <= 0.05
            key = f"{name}, {n} seeds"
            rates[key] = {
                "size": single / trials,
                "any of 3": plain / trials,
                "any of 3, Holm": adjusted / trials,
            }
        rng, single, adjusted = stream(0, "power", n), 0, 0
        for _ in range(trials):
            alone = near(0.02, 40)(rng, (1, n))[0].tolist()
            p = [permutation_test(gaining(rng, (1, n))[0].tolist(), alone) for _ in range(3)]
            single += p[0] <= 0.05
            adjusted += holm(p)[0] <= 0.05
        rates[f"joint 0.02 or 0.60, {n} seeds"] = {
            "power": single / trials,
            "power, Holm of 3": adjusted / trials,
        }
    return rates


def table(found: Found) -> str:
    """Methods as rows; of each number of seeds the least coverage and the median width on practical ones."""
    rows = []
    for method in [*METHODS, PAIRED]:
        row = [f"**{method}**" if method in (CHOSEN, PAIRED) else method]
        for kind in found:
            for n in SEEDS:
                if method not in found[kind]:
                    row.append("")
                    continue
                own = found[kind][method][str(n)]
                least = min(hit for hit, _ in own.values())
                width = float(np.median([width for name, (_, width) in own.items() if is_practical(name)]))
                row.append(f"{least:.3f} / {width:.2f}")
        rows.append(row)
    headers = ["method", *(f"{kind}, {n}" for kind in found for n in SEEDS)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def compact(found: Found) -> dict[str, dict[str, Any]]:
    """Kind of value -> the distributions' names, and of each method and number of seeds their coverage and
    median width, in the same order.
    """
    return {
        kind: {
            "distributions": list(next(iter(of_kind.values()))[str(SEEDS[0])]),
            "methods": {
                method: {
                    n: {
                        "coverage": [hit for hit, _ in own.values()],
                        "width": [width for _, width in own.values()],
                    }
                    for n, own in by_seeds.items()
                }
                for method, by_seeds in of_kind.items()
            },
        }
        for kind, of_kind in found.items()
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=4000, help="a distribution and number of seeds")
    arguments.add_argument("--output", type=Path, help="write every distribution's coverage here, as JSON")
    known = arguments.parse_args()
    found = simulated(known.trials)
    print("least coverage over the family / median width\n")
    print(table(found))
    of_bernoulli = {str(n): round(exact(n), 4) for n in range(2, 65)}
    print(
        f"\n{CHOSEN}: of Bernoulli outcomes of any p, 2 to 64 seeds, at least {min(of_bernoulli.values())}\n"
    )
    tests = permutation_rates(max(20, known.trials // 4))
    for name, rates in tests.items():
        print(f"{name}: " + ", ".join(f"{what} {rate:.3f}" for what, rate in rates.items()))
    if known.output:
        data = {
            "trials": known.trials,
            "seed": 0,
            "level": LEVEL,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            },
            "chosen": CHOSEN,
            "exact_bernoulli": of_bernoulli,
            "permutation_test": tests,
            **compact(found),
        }
        known.output.write_text(json.dumps(data) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
