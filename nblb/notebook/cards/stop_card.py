"""The card after the stop button has ended a wait: the user chooses what happens to the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook.cards.card import Card, Look

if TYPE_CHECKING:
    from nblb.notebook.cards.widget import CardWidget
    from nblb.notebook.kernel.environment import Mode

LOOK_S = 0.5
FATES = {  # choice -> (sign, word), and the sentence shown
    "": (("▶", "goes on"), "The kernel is free again. Stop once more within 3 s, or Cancel, to end the work."),
    "detach": (("▶", "goes on"), "It goes on without this cell."),
    "cancel": (("⊘", "cancelled"), "It has been cancelled."),
    "kill": (("⊘", "killed"), "It has been killed."),
    "ended": (("✓", "ended"), "It ended before anything was chosen."),
}


class StopCard(Card):
    """The card with the choices Detach, Cancel and Kill."""

    def __init__(self, thing: Any, mode: Mode, chosen: str = "") -> None:
        self.chosen = chosen
        super().__init__(thing, mode)

    def described(self, thing: Any) -> dict[str, Any]:
        if not self.chosen and thing.done():
            self.chosen = "ended"
        look, said = FATES[self.chosen]
        name = called(thing)
        notes = [said]
        if self.chosen == "detach" and type(thing).__name__ == "Job":
            notes.append(f"lb.attach({name!r}) takes it up again, in any kernel.")
        return {
            "title": f"stopped waiting for {name}",
            "state": self.chosen or "goes on",
            "look": look,
            "notes": notes,
            "over": bool(self.chosen),
            "can": dict.fromkeys(("detach", "cancel", "kill"), not self.chosen),
        }

    def look(self, thing: Any, _now: float) -> Look:
        return Look(self.described(thing))

    def pace(self, _shown_s: float) -> float:
        return LOOK_S

    def act(self, thing: Any, click: str, _value: Any) -> str:
        if click in ("detach", "cancel", "kill") and not self.chosen:
            self.choose(thing, click)
        return ""

    def choose(self, thing: Any, fate: str) -> None:
        """Carries out the choice and shows it."""
        self.chosen = fate
        if fate in ("cancel", "kill"):
            thing.cancel(kill=fate == "kill")
        self.changed()

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import StopWidget

        return StopWidget(**traits)


def called(thing: Any) -> str:
    """The name of the awaited object for people."""
    return str(getattr(thing, "name", "") or repr(thing).strip("<>"))
