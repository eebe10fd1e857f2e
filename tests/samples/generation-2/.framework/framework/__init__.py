"""The generators that the project was made with."""
