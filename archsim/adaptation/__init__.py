"""The initialization algorithm: from a pretrained GPT-2 onto gain cells (FACTS 5)."""
