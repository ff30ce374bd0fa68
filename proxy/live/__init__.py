"""What an operator watches: counts, their history, the pipeline's dates."""
