"""Write a first study for data of a user's own, from a look at their rows."""
