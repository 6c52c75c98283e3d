"""One published system a file, and what several systems share."""
