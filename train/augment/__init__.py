"""Additive noise, music, babble and reverberation on a batch, with counter-based randomness."""

from train.augment.augmenter import Augmenter
from train.augment.draw import KINDS, SOURCES, Draws, Recipe, draw

__all__ = ["KINDS", "SOURCES", "Augmenter", "Draws", "Recipe", "draw"]
