"""Chips in a torus, and what it takes to send data around it."""

import functools
import math
import re
from collections import Counter

import numpy as np

# Seconds for one message to reach the next chip, however small.
HOP_LATENCY = 1e-6


class Torus:
    """Chips at integer coordinates, linked to their neighbours in every dimension."""

    def __init__(self, coordinates, shape, rings, link_bandwidth):
        self.devices = len(coordinates)
        self._at = coordinates
        self._in_one_place = max(Counter(map(tuple, coordinates.tolist())).values())
        self._shape = shape
        self._rings = rings
        self._bandwidth = link_bandwidth

    def collective_seconds(
        self, opcode: str, group: tuple[int, ...], whole: float, notes: str = ""
    ):
        """Seconds of a collective over one of its equal groups.

        Data travel around rings: (n − 1)/n of all bytes for a gather or a scatter, twice that for
        a reduction that everybody receives, and a quarter of n/2 ways for an exchange of everything
        (Hamiltonian rings; "How to scale your model", ch. 3). The compiler's notes tell how many
        rings share the data, as there may be one for every dimension of the torus.

        Args:
          opcode: XLA's.
          group: device numbers of one group.
          whole: bytes of the whole array, gathered or before it is scattered.
          notes: text with the compiler's choice of algorithm.
        """
        n = len(group)
        if n == 1:
            return 0.0
        share = {
            "all-gather": (n - 1) / n,
            "reduce-scatter": (n - 1) / n,
            "all-reduce": 2 * (n - 1) / n,
            "all-to-all": n / 4,
        }[opcode]
        steps = n - 1 if opcode != "all-reduce" else 2 * (n - 1)
        rings, sharing = self._rings_of(group, notes)
        # Devices of a chip that are in groups of their own send through the same links.
        places = len(np.unique(self._at[list(group)], axis=0))
        sharing *= self._in_one_place / (n / places)
        # One ring runs both ways, so each way carries half.
        seconds = share * whole * sharing / (2 * rings * self._bandwidth)
        return seconds + steps / (2 * rings) * HOP_LATENCY

    def _rings_of(self, group: tuple[int, ...], notes: str) -> tuple[float, float]:
        """How many rings a group can use at a time, and how many groups share their links."""
        at = self._at[list(group)]
        values = [np.unique(at[:, d]) for d in range(at.shape[1])]
        spanned = [d for d, v in enumerate(values) if len(v) > 1]
        if not spanned:
            return 1, 1.0
        sharing = max(float(np.diff(values[d]).min()) for d in spanned)
        if len(spanned) == 1:
            d = spanned[0]
            closed = self._rings[d] and len(values[d]) * sharing == self._shape[d]
            # There and back on a line: each way is used twice.
            return 1, sharing if closed else 2 * sharing
        return _rings_noted(notes), sharing

    @functools.cache  # noqa: B019 - a torus lives as long as one estimate
    def _traffic(self, pairs: tuple[tuple[int, int], ...]) -> tuple[int, int, frozenset[str]]:
        """The most pairs on one link, the most hops of a pair, and the directions in use."""
        load, hops, directions = Counter(), 0, set()
        for source, target in pairs:
            path = self._route(tuple(self._at[source]), tuple(self._at[target]))
            load.update(path)
            hops = max(hops, len(path))
            directions |= {f"link {dim}{sign:+d}" for _, dim, sign in path}
        return max(load.values(), default=0), hops, frozenset(directions)

    def _route(self, source, target):
        """Links from chip to chip, one dimension after another, each the shorter way."""
        at, path = list(source), []
        for dim, size in enumerate(self._shape):
            ahead = int(target[dim] - at[dim])
            if self._rings[dim] and abs(ahead) > size / 2:
                ahead -= int(math.copysign(size, ahead))
            sign = 1 if ahead > 0 else -1
            for _ in range(abs(ahead)):
                path.append((tuple(map(int, at)), dim, sign))
                at[dim] = (at[dim] + sign) % size
        return path

    def directions(self, pairs: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
        """The links that a permute uses, such as "link 0+1": dimension 0, upwards."""
        return tuple(sorted(self._traffic(pairs)[2])) or ("links",)

    def permute_seconds(self, pairs: tuple[tuple[int, int], ...], sent: float) -> float:
        """Seconds until everybody has sent so many bytes to its partner."""
        load, hops, _ = self._traffic(pairs)
        return load * sent / self._bandwidth + hops * HOP_LATENCY


def _rings_noted(notes: str) -> float:
    """How many rings that run both ways carry a collective's data, by the compiler's notes.

    Each of a strategy's colors is a share of the data that travels beside the others: there and
    back at once, or one way alone where its name says so. As many go through the dimensions of a
    torus, each in another order, as there are dimensions (or twice as many one way), so that all
    links are in use. Gathers have no strategy, and one ring.
    """
    found = re.search(r"(\w*Strategy\w*)\{colors:(\d+)", notes)
    if not found:
        return 1
    return int(found.group(2)) / (2 if "UniDirection" in found.group(1) else 1)
