"""The journal of the core: the database and files that make an accepted task survive."""
