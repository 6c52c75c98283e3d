"""`personsearch demo`: train, measure, and show queries with their hits on one page."""
