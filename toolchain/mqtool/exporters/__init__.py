"""Model source -> float graphs with their front end, token table and manifest."""
