"""The steps of the pipeline, one module a step, and what they share."""
