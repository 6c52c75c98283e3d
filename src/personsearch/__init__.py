"""personsearch: find a person in whole pictures."""
