"""Several files that failed, as one error."""

from __future__ import annotations

from collections.abc import Sequence

from shard_tools.errors import UserError

_SHOWN = 20


class ProblemsError(UserError):
    """One problem: its line. Several: how many, and the first twenty, one a line. And what follows."""

    def __init__(self, problems: Sequence[str], consequence: str) -> None:
        self.problems = list(problems)
        if len(self.problems) == 1:
            super().__init__(f"{self.problems[0]}; {consequence}")
            return
        shown = self.problems[:_SHOWN]
        if len(shown) < len(self.problems):
            shown = [*shown, f"… and {len(self.problems) - len(shown)} more"]
        super().__init__("\n  ".join([f"{len(self.problems)} problems; {consequence}:", *shown]))
