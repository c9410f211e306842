"""The real Scheduler, Slots and Session under a virtual clock, a seeded network and a seeded disk.

A history is one seed: a small cluster, its users, and what breaks. See docs/simulation.md.
"""

from nblb.simulation.story import History, HistoryResult, play

__all__ = ["History", "HistoryResult", "play"]
