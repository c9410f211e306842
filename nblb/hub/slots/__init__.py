"""The pure half of a hub: it decides which worker runs which slice, and what is stopped or reported."""
