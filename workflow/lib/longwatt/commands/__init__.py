"""Commands of the program `longwatt`, one module each."""
