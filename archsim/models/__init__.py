"""Language models in software: GPT-2, tokenizers, adapted folders, recording traces of them."""
