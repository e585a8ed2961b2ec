"""How a build differs from the version in service: read, matched, measured, and set against bounds."""
