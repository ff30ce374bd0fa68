"""The OpenAPI document of both ports, as data. What is served is made here, by nobody else."""
