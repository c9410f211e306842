"""Hubs on other computers, reached by the system's ssh: a comparison before the start, a tunnel, and an orderly end."""
