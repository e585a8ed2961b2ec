"""A/B tests: who sees what, and what may be concluded from what they did."""
