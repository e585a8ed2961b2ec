"""A/B tests of the service: what is tried, on whom, and what came of it."""
