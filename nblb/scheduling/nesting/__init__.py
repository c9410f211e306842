"""Tasks that submit tasks: what is owed to a parent, workers that wait for nested tasks, calls that return them."""
