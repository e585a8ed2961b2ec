"""The sections of the configuration, by area; `pipelines.core.config` puts them together."""
