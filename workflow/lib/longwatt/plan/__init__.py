"""The time, energy, money and disk of a study, before anybody pays for them."""
