"""The shape of a whole model of the GPT-2 kind: what of a token is not attention."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.errors import ConfigError

FINAL_ELEMENTWISE = 7
"""Elementwise operations a feature of the last LayerNorm; each counts as a multiply-accumulate."""

LAYER_NORMS, RESIDUALS, GELU = 2 * FINAL_ELEMENTWISE, 2, 8
"""Elementwise operations of a layer: a feature's in two LayerNorms and two residual sums, and those
of GELU for each feature of the MLP. A bias is one for each feature that it is added to."""


@dataclass(frozen=True)
class TransformerShape:
    """A decoder with LayerNorm, GELU and biases, output matrix tied to the embedding.

    `kv_heads` (fewer than `heads`: grouped queries) and `mlp`, the width between the MLP's two
    matrices, are those of GPT-2 unless given: as many as heads, and four times the width. Raises
    ConfigError for a shape that cannot be.
    """

    name: str
    layers: int
    heads: int
    head_dim: int
    vocabulary: int
    kv_heads: int = 0
    mlp: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        object.__setattr__(self, "mlp", self.mlp or 4 * self.width)
        for field in ("layers", "heads", "head_dim", "vocabulary", "kv_heads", "mlp"):
            if getattr(self, field) < 1:
                raise ConfigError(f"model {self.name}: {field} must be at least 1")
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"model {self.name}: {self.heads} heads cannot share {self.kv_heads} kv_heads"
            )

    @property
    def width(self) -> int:
        """Features of a token between layers."""
        return self.heads * self.head_dim

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's matrices: Q K V, output projection, two of the MLP."""
        projected = self.width + 2 * self.kv_heads * self.head_dim
        return (
            (self.width, projected),
            (self.width, self.width),
            (self.width, self.mlp),
            (self.mlp, self.width),
        )

    @property
    def biases(self) -> int:
        """Biases of a layer: one for each output of its matrices."""
        return sum(outputs for _, outputs in self.matrices)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one token outside attention, elementwise operations included."""
        layer = sum(inputs * outputs for inputs, outputs in self.matrices) + self.biases
        layer += (LAYER_NORMS + RESIDUALS) * self.width + GELU * self.mlp
        return self.layers * layer + self.width * (self.vocabulary + FINAL_ELEMENTWISE)

    @property
    def weights(self) -> int:
        """Weights that one token needs: matrices, biases, and two LayerNorms of two vectors."""
        layer = sum(inputs * outputs for inputs, outputs in self.matrices) + self.biases
        layer += 4 * self.width
        return self.layers * layer + self.width * (self.vocabulary + 2)


GPT2_SMALL = TransformerShape("GPT-2 small", 12, 12, 64, 50257)
