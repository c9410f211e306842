"""The real Scheduler, Slots and Session under a virtual clock, a seeded network and a seeded disk.

One seed gives one history: a small cluster, its users, and its faults. See docs/simulation.md.
"""

from nblb.simulation.story import History, HistoryResult, play

__all__ = ["History", "HistoryResult", "play"]
