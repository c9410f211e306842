"""Reports for people: the sentences of why(), counts of calls, sums by task name and user, and wall-clock times."""
