"""Named, ordered sets of tasks: submit, reuse, retry, look at and list them."""
