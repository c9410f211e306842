"""The checks of `nblb doctor`: what may keep a cluster from working, found before somebody meets it."""
