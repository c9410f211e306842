"""The number of workers that follows the load: what is needed (policy), what is there (demand), and who provides it."""
