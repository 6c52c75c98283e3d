"""From media to rows in a store."""
