"""Write a first study from a look at a user's rows."""
