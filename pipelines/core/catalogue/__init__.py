"""A seeded, made-up shop for the demo and the tests: `generate` makes it, `write` puts it on disk."""

from pipelines.core.catalogue.generate import Catalogue, GeneratorConfig, generate, write

__all__ = ["Catalogue", "GeneratorConfig", "generate", "write"]
