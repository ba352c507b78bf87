"""Inputs to trace a transformers model with, from its config alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from .errors import RecordError, quoted
from .huggingface import cache_of, is_growing, takes_use_cache, traceable
from .meta import as_on_cpu

BATCH, SEQUENCE, PAST = 2, 5, 3


@dataclass(frozen=True)
class Example:
    """Keyword arguments of forward, and the sizes in them that stay open."""

    kwargs: dict[str, Any]
    dynamic_shapes: dict[str, Any]


def example(model: nn.Module, cache: bool = True, seed: int = 0) -> Example:
    """Inputs for a model of text, images, both or sound: open batch and sequence, and a KV cache
    for causal models.
    """
    generator = torch.Generator().manual_seed(seed)
    config: Any = model.config
    main = str(getattr(model, "main_input_name", ""))
    takes = inspect.signature(model.forward).parameters
    if main == "pixel_values":
        return _with_text(config, takes, _image(config, generator), generator)
    if main == "input_values" and hasattr(config, "conv_stride"):
        return _waveform(config, generator)
    if main == "input_features" and hasattr(config, "max_source_positions"):
        return _spectrogram(config, generator)
    if main != "input_ids":
        raise RecordError(
            f"no default inputs for {type(model).__name__}, whose main input is `{main}`; record "
            "it from Python with `GoldenRecorder.record(model, …)` and inputs of your own"
        )
    if getattr(config, "is_encoder_decoder", False):
        return _encoder_decoder(config, generator)
    geometry = cache_geometry(model) if cache and _is_causal(model) else None
    text = _text(model, geometry, generator)
    return _with_images(config, takes, text, generator)


def fixed(given: Example, sizes: Mapping[str, int]) -> Example:
    """`given` with some of its open sizes closed, at these values; what was drawn is repeated.

    Raises RecordError for a name that is not among its open sizes, or is one of a cache.
    """
    tensors = {n: axes for n, axes in given.dynamic_shapes.items() if isinstance(axes, dict)}
    layers = [layer for n, layer in given.dynamic_shapes.items() if n not in tensors]
    in_cache = {text for layer in layers for axes in layer[0].values() for text in axes.values()}
    drawn = {
        text: given.kwargs[name].shape[axis]
        for name, axes in tensors.items()
        for axis, text in axes.items()
        if text.isidentifier() and text not in in_cache
    }
    if unknown := sorted(sizes.keys() - drawn.keys()):
        raise RecordError(
            f"{quoted(', '.join(unknown))} cannot be fixed; of these inputs, "
            f"{quoted(', '.join(drawn)) if drawn else 'nothing'} can"
            + (f", and without a cache {quoted(', '.join(sorted(in_cache)))}" if in_cache else "")
        )
    kwargs, left = dict(given.kwargs), {**given.dynamic_shapes, **{name: {} for name in tensors}}
    for name, axes in tensors.items():
        for axis, text in axes.items():
            terms = text.split(" + ")
            more = sum(sizes[term] - drawn[term] for term in terms if term in sizes)
            kwargs[name] = _cycled(kwargs[name], axis, kwargs[name].shape[axis] + more)
            if not sizes.keys() >= set(terms):
                left[name][axis] = " + ".join(str(sizes.get(term, term)) for term in terms)
    return Example(kwargs, left)


def _cycled(tensor: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """As many of `tensor` along `axis`, beginning anew where it ends."""
    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])


def _is_causal(model: nn.Module) -> bool:
    takes = inspect.signature(model.forward).parameters
    return "past_key_values" in takes and bool(
        getattr(model, "can_generate", lambda: False)() or getattr(model.config, "is_decoder", 0)
    )


def cache_geometry(model: nn.Module) -> list[tuple[tuple[int, int], tuple[int, int]]] | None:
    """Per layer, (heads, head size) of the keys and the values; None without such a cache.

    None, too, where the model cannot be run without values: tracing it says where and why.
    """
    from transformers.cache_utils import DynamicCache

    ids = torch.zeros(1, 2, dtype=torch.long, device="meta")
    twin = _on_meta(model)
    with torch.no_grad(), as_on_cpu(twin, ids) as (given, _), traceable(twin):
        try:
            cache = getattr(twin(input_ids=given, use_cache=True), "past_key_values", None)
        except DataDependentOutputException:
            return None
    if not isinstance(cache, DynamicCache) or not cache.layers:
        return None
    layers: list[Any] = list(cache.layers)
    if not all(is_growing(layer) and layer.is_initialized for layer in layers):
        return None
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
    elif takes_use_cache(model):
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


def _spectrogram(config: Any, generator: torch.Generator) -> Example:
    """As much sound as an encoder takes, no less, and the beginning of what is said in it."""
    frames = 2 * config.max_source_positions
    heard = torch.randn(BATCH, config.num_mel_bins, frames, generator=generator)
    text = _ids(config.vocab_size, generator)
    kwargs = {"input_features": heard, "decoder_input_ids": text, "use_cache": False}
    target = {0: "batch", 1: "target"}
    return Example(kwargs, {"input_features": {0: "batch"}, "decoder_input_ids": target})


def _waveform(config: Any, generator: torch.Generator) -> Example:
    """Sound of so many samples that the convolutions make a few frames of it."""
    samples = 4 * SEQUENCE
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    heard = torch.randn(BATCH, samples, generator=generator)
    return Example({"input_values": heard}, {"input_values": {0: "batch", 1: "samples"}})


def _with_images(config: Any, takes: Any, text: Example, generator: torch.Generator) -> Example:
    """For a model that compares texts with images, some of these, too; their number is its own.

    Where images take the place of tokens in the text, text alone is traced.
    """
    in_text = any(getattr(config, f"image_token_{n}", None) is not None for n in ("id", "index"))
    if "pixel_values" not in takes or in_text or not hasattr(config, "vision_config"):
        return text
    image = _image(config, generator)
    kwargs = {**text.kwargs, **image.kwargs}
    return Example(kwargs, {**text.dynamic_shapes, "pixel_values": {0: "images"}})


def _with_text(config: Any, takes: Any, image: Example, generator: torch.Generator) -> Example:
    """For a model that reads a text beside each image, that, too."""
    if "input_ids" not in takes or not hasattr(config, "text_config"):
        return image
    ids = _ids(config.get_text_config().vocab_size, generator)
    both = {0: "batch", 1: "sequence"}
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    text = {name: value for name, value in text.items() if name in takes}
    return Example({**image.kwargs, **text}, {**image.dynamic_shapes, **dict.fromkeys(text, both)})


def _image(config: Any, generator: torch.Generator) -> Example:
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    channels = getattr(vision, "num_channels", 3)
    frames = [vision.num_frames] if hasattr(vision, "num_frames") else []
    pixels = torch.randn(BATCH, *frames, channels, height, width, generator=generator)
    return Example({"pixel_values": pixels}, {"pixel_values": {0: "batch"}})
