"""An intervention: noise on the vectors of all frames before one decoder layer."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from probes.core.types import ArrayName
from probes.models.interventions import Collected


@dataclass(frozen=True)
class FrameNoise:
    """Gaussian noise, as a multiple of each vector's root mean square."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"layers"})
    packable: ClassVar[bool] = False

    strength: float = 1.0
    layer: int = 0
    seed: int = 0

    def __post_init__(self):
        if self.strength < 0 or self.layer < 0:
            raise ValueError("strength and layer are not below 0")

    def is_identity(self):
        """Return whether there is no noise: the answers, and their cache keys, are plain ones."""
        return self.strength == 0

    @contextmanager
    def apply(self, model, batch):
        """Add the noise during the passes over one batch."""
        import torch

        if self.layer >= len(batch.layers):
            raise ValueError(f"there is no layer {self.layer} of {len(batch.layers)}")
        collected = [Collected() for _ in batch.prompts]

        def add(_module, args, given):
            hidden = given.get("hidden_states", args[0] if args else None)
            if hidden.shape[1] != batch.ids_BT.shape[1]:
                return None  # a pass over a token that was written: it has no frames
            noisy = hidden.clone()
            for number, prompt in enumerate(batch.prompts):
                row, norms = batch.places[number].prompt.row, []
                names = dict.fromkeys(s.name for s in prompt.spans if s.name.startswith("frame "))
                for name in names:
                    at = torch.from_numpy(batch.at(number, name)).to(hidden.device)
                    # Keyed by frame and place in the clip, never by batch or row.
                    sha = prompt.frames[list(names).index(name)]
                    keyed = torch.Generator().manual_seed(int(sha[:12], 16) + self.seed)
                    noise = torch.randn(len(at), hidden.shape[2], generator=keyed).to(hidden)
                    rms = hidden[row, at].float().square().mean(-1, keepdim=True).sqrt()
                    noisy[row, at] += self.strength * rms.to(hidden) * noise
                    norms.append(rms.mean())
                if norms:
                    each = torch.stack(norms).float()
                    collected[number].extras["noise_rms"] = self.strength * float(each.mean())
                    collected[number].arrays[ArrayName("rms", self.layer, "frames")] = each
            if args:
                return (noisy, *args[1:]), given
            return args, given | {"hidden_states": noisy}

        hook = batch.layers[self.layer].register_forward_pre_hook(add, with_kwargs=True)
        batch.cleanup.callback(hook.remove)
        yield collected
