"""Facts into edit requests: the relation catalogue, verbalising, neighborhood choice and the planner."""
