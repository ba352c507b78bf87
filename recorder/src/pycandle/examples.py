"""Inputs to trace a transformers model with, from its config alone."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .errors import RecordError
from .huggingface import cache_of, traceable
from .meta import as_on_cpu

BATCH, SEQUENCE, PAST = 2, 5, 3


@dataclass(frozen=True)
class Example:
    """Keyword arguments of forward, and the sizes in them that stay open."""

    kwargs: dict[str, Any]
    dynamic_shapes: dict[str, Any]


def example(model: nn.Module, cache: bool = True, seed: int = 0) -> Example:
    """Inputs for a text or image model: open batch and sequence, a KV cache for causal models."""
    generator = torch.Generator().manual_seed(seed)
    config: Any = model.config
    main = str(getattr(model, "main_input_name", ""))
    if main == "pixel_values":
        return _image(config, generator)
    if main != "input_ids":
        raise RecordError(
            f"no default inputs for {type(model).__name__}, whose main input is `{main}`; record "
            "it from Python with `GoldenRecorder.record(model, …)` and inputs of your own"
        )
    if getattr(config, "is_encoder_decoder", False):
        return _encoder_decoder(config, generator)
    geometry = cache_geometry(model) if cache and _is_causal(model) else None
    return _text(model, geometry, generator)


def _is_causal(model: nn.Module) -> bool:
    takes = inspect.signature(model.forward).parameters
    return "past_key_values" in takes and bool(
        getattr(model, "can_generate", lambda: False)() or getattr(model.config, "is_decoder", 0)
    )


def cache_geometry(model: nn.Module) -> list[tuple[tuple[int, int], tuple[int, int]]] | None:
    """Per layer, (heads, head size) of the keys and the values; None without such a cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    ids = torch.zeros(1, 2, dtype=torch.long, device="meta")
    twin = _on_meta(model)
    with torch.no_grad(), as_on_cpu(twin, ids) as given, traceable(twin):
        cache = twin(input_ids=given, use_cache=True).past_key_values
    if not isinstance(cache, DynamicCache) or not cache.layers:
        return None
    if not all(isinstance(layer, DynamicLayer) and layer.is_initialized for layer in cache.layers):
        return None
    layers: list[Any] = list(cache.layers)
    return [
        ((x.keys.shape[1], x.keys.shape[3]), (x.values.shape[1], x.values.shape[3])) for x in layers
    ]


def _on_meta(model: nn.Module) -> nn.Module:
    """A twin of `model` that has no values, to ask for shapes."""
    if all(p.device.type == "meta" for p in model.parameters()):
        return model
    config: Any = model.config
    with torch.device("meta"):
        return type(model)(config).eval()


def _text(model: nn.Module, geometry: Any, generator: torch.Generator) -> Example:
    config: Any = model.config.get_text_config()  # type: ignore[operator, union-attr]
    takes = inspect.signature(model.forward).parameters
    past = PAST if geometry else 0
    both = {0: "batch", 1: "sequence"}
    kwargs: dict[str, Any] = {"input_ids": _ids(config.vocab_size, generator)}
    shapes: dict[str, Any] = {"input_ids": both}
    mask = torch.ones(BATCH, past + SEQUENCE, dtype=torch.long)
    mask[1, -2:] = 0
    if "attention_mask" in takes:
        kwargs["attention_mask"] = mask
        shapes["attention_mask"] = {0: "batch", 1: "past + sequence"} if past else both
    if "token_type_ids" in takes and getattr(config, "type_vocab_size", 0) > 1:
        kwargs["token_type_ids"] = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
        shapes["token_type_ids"] = both
    if geometry:
        dtype = next(model.parameters()).dtype
        kwargs["past_key_values"] = random_cache(geometry, BATCH, PAST, dtype, generator)
        open_sizes = {0: "batch", 2: "past"}
        shapes["past_key_values"] = [{"key": open_sizes, "value": open_sizes}] * len(geometry)
        kwargs["use_cache"] = True
    elif "use_cache" in takes:
        kwargs["use_cache"] = False
    return Example(kwargs, shapes)


def random_cache(
    geometry: Any, batch: int, past: int, dtype: torch.dtype, generator: torch.Generator
) -> Any:
    """A cache of `past` tokens with normal values, for `cache_geometry`'s answer."""

    def draw(place: tuple[int, int]) -> torch.Tensor:
        heads, size = place
        return torch.randn(batch, heads, past, size, generator=generator).to(dtype)

    return cache_of([(draw(keys), draw(values)) for keys, values in geometry])


def _ids(vocabulary: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, vocabulary, (BATCH, SEQUENCE), generator=generator)


def _encoder_decoder(config: Any, generator: torch.Generator) -> Example:
    mask = torch.ones(BATCH, SEQUENCE, dtype=torch.long)
    mask[1, -2:] = 0
    vocabulary = config.get_text_config().vocab_size
    kwargs = {
        "input_ids": _ids(vocabulary, generator),
        "attention_mask": mask,
        "decoder_input_ids": _ids(vocabulary, generator)[:, :3],
        "use_cache": False,
    }
    both = {0: "batch", 1: "sequence"}
    target = {0: "batch", 1: "target"}
    shapes = {"input_ids": both, "attention_mask": both, "decoder_input_ids": target}
    return Example(kwargs, shapes)


def _image(config: Any, generator: torch.Generator) -> Example:
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    channels = getattr(vision, "num_channels", 3)
    pixels = torch.randn(BATCH, channels, height, width, generator=generator)
    return Example({"pixel_values": pixels}, {"pixel_values": {0: "batch"}})
