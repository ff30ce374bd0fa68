"""A made-up deployment to try the proxy on: data, a legacy API, a pipeline."""
