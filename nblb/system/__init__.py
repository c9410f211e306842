"""Facts about processes, folders and terminals of this computer that every part of nblb shares."""
