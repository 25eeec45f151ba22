"""What is trained, behind one method: a batch in, a loss and figures out."""

from train.objectives.base import Objective, Outcome
from train.objectives.supervised import Supervised

__all__ = ["Objective", "Outcome", "Supervised"]
