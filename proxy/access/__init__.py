"""Who may have our answers, where the legacy application decides that."""
