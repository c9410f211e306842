"""Messages between processes, commands of the pure machines, entries of the journal, and their encoding."""
