"""How several datasets share the speakers of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from train.plan.base import PlanError, check_lanes_share


def shares(speakers: int, weights: Sequence[float], lanes: int = 1) -> list[int]:
    """The speakers that each dataset gives to a batch, by weight and largest remainder: in all the same.

    lanes: parts of a batch, in each of which all datasets have their shares. PlanError where one gets none.
    """
    check_lanes_share(speakers, lanes)
    each = speakers // lanes
    exact = [Fraction(weight) for weight in weights]
    quotas = [each * weight / sum(exact) for weight in exact]
    found = [int(quota) for quota in quotas]
    # Equal remainders go to the first: sorted is stable.
    for number in sorted(range(len(found)), key=lambda i: found[i] - quotas[i])[: each - sum(found)]:
        found[number] += 1
    if 0 in found:
        number = found.index(0)
        lane = f" over {lanes} data.windows.lanes" if lanes > 1 else ""
        raise PlanError(
            f"data.weights give {weights[number]:g} of {sum(weights):g} to dataset {number + 1}, which is "
            f"none of the {speakers} speakers of a batch{lane}: raise that weight or batch.speakers"
        )
    return [lanes * own for own in found]


def too_few_speakers(url: str, share: int, speakers: int, found: str) -> PlanError:
    """The error for a dataset that cannot give its share; found: how many speakers it has, in words."""
    return PlanError(
        f"{url} gives {share} of the {speakers} speakers of a batch (data.weights), and it has {found}: "
        "lower batch.speakers or its weight"
    )
