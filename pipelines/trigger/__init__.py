"""Why a pipeline run starts: a push, new data, an alert, a schedule. Knows causes and windows; runs no step."""
