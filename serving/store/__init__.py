"""What the service must not lose: events, what users say of themselves, whom to forget. SQLite or PostgreSQL."""
