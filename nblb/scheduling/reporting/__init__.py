"""What people are told of tasks: the words of why(), counts of calls, sums by name and user, and the wall clock."""
