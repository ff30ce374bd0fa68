"""Other people's systems that can answer a question: the tables and the legacy API."""
