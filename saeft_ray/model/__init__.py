"""The CLIP model: image encoder, zero-shot head, tokenizers, and the weights that are in this package."""
