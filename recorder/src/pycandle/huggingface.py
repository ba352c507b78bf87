"""What the recorder knows about transformers: masks, attention, caches and lost buffers."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree as pytree

from .arguments import var_keyword
from .attributes import kept
from .errors import RecordError
from .meta import non_persistent_buffers


def _is_root(model: nn.Module) -> bool:
    """Whether `model` itself is a transformers model; does not import transformers by itself."""
    module = sys.modules.get("transformers.modeling_utils")
    return module is not None and isinstance(model, module.PreTrainedModel)


def is_pretrained(model: nn.Module) -> bool:
    """Whether `model` is a transformers model or holds one."""
    return any(_is_root(module) for module in model.modules())


@contextmanager
def traceable(model: nn.Module) -> Iterator[None]:
    """Inside, transformers' attention, masks and caches have no branch on a size.

    The stock functions drop the mask for one token, repeat the key heads or not, and so tie a
    trace to more than one token. Here the mask is always there for causal attention, and
    `scaled_dot_product_attention` gets mask, scale and grouped heads as they are.
    """
    if not is_pretrained(model):
        yield
        return
    from transformers import masking_utils
    from transformers.cache_utils import DynamicLayer
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, batched_mm_experts_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    register_cache()
    swaps: list[tuple[Any, str, Any]] = [
        (ALL_ATTENTION_FUNCTIONS, "sdpa", _attention),
        (masking_utils.ALL_MASK_ATTENTION_FUNCTIONS, "sdpa", _mask),
        (ALL_EXPERTS_FUNCTIONS, "grouped_mm", batched_mm_experts_forward),
    ]
    before = [interface._local_mapping.get(name) for interface, name, _ in swaps]
    for interface, name, function in swaps:
        interface[name] = function
    length = DynamicLayer.get_seq_length
    DynamicLayer.get_seq_length = _cached_length  # type: ignore
    own = vars(masking_utils)
    prepare = own.get("_preprocess_mask_arguments")
    if prepare is not None:
        own["_preprocess_mask_arguments"] = _for_each_sequence(prepare)
    try:
        yield
    finally:
        if prepare is not None:
            own["_preprocess_mask_arguments"] = prepare
        DynamicLayer.get_seq_length = length  # type: ignore
        for (interface, name, _), function in zip(swaps, before, strict=True):
            if function is None:
                del interface[name]
            else:
                interface[name] = function


def _for_each_sequence(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """The stock function expands positions to the batch, if that is not 1: here to any batch.

    It does so where there is neither mask nor cache. Its parameters differ from version to version.
    """
    signature = inspect.signature(prepare)

    def run(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        embeds, positions = given.get("inputs_embeds"), given.get("position_ids")
        beside = given.get("attention_mask"), given.get("past_key_values")
        is_alone = all(value is None for value in beside)
        if embeds is not None and positions is not None and is_alone:
            given["position_ids"] = positions.expand(embeds.shape[0], -1)
        return prepare(**given)

    return run


def _cached_length(layer: Any) -> int:
    """The stock function asks whether the cache holds nothing, and then says 0, which it is."""
    return layer.keys.shape[-2] if layer.is_initialized else 0


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if kwargs.get("softcap") is not None:
        raise RecordError(
            "sdpa attention has no softcap; load the model with attn_implementation='eager'"
        )
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", True))
    causal = is_causal and attention_mask is None
    if causal and not statically_known_true(query.shape[2] == key.shape[2]):
        attention_mask = _causal_mask(query.shape[2], key.shape[2], query.device)
        causal = False
    if position_bias is not None:
        from transformers.integrations.sdpa_attention import create_position_bias_mask

        attention_mask = create_position_bias_mask(
            position_bias, attention_mask, causal, query, key
        )
        causal = False
    extra: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:
        extra["enable_gqa"] = True
    if causal:
        extra["is_causal"] = True
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling, **extra
    )
    return output.transpose(1, 2).contiguous(), None


def _causal_mask(queries: Any, keys: Any, device: torch.device) -> torch.Tensor:
    """What the stock function does without a mask, in one expression for every size.

    A single query sees all keys; several see as many as torch's `is_causal` shows them, which
    counts from the first key.
    """
    rows = torch.arange(queries, device=device)
    columns = torch.arange(keys, device=device)
    single = rows.sum() == 0
    return (columns[None, :] <= rows[:, None]) | single


def take_caches(values: Any) -> None:
    """Lets caches among `values` be taken apart; raises RecordError for one that holds nothing."""
    module = sys.modules.get("transformers.cache_utils")
    if module is None:
        return
    register_cache()

    def is_cache(value: Any) -> bool:
        return isinstance(value, module.DynamicCache)

    for cache in pytree.tree_leaves(values, is_leaf=is_cache):
        if is_cache(cache) and not (cache.layers and all(x.is_initialized for x in cache.layers)):
            raise RecordError(
                "a cache among the arguments holds nothing, and a trace needs the shapes of its "
                "layers: give what the model returns as `past_key_values` for a few tokens"
            )


def cache_made(inputs: Iterable[str], outputs: Iterable[str]) -> int:
    """Of how many tensors a cache is, by the paths of all, that is returned and was not given."""
    start = "past_key_values"
    given = any(path.startswith(start) for path in inputs)
    return 0 if given else sum(path.startswith(start) for path in outputs)


class CacheMadeError(RecordError):
    """A model made a cache, though it was not told whether it should."""


@contextmanager
def caches_refused() -> Iterator[None]:
    """Inside, a model that makes a cache raises CacheMadeError at once."""
    module = sys.modules.get("transformers.cache_utils")
    if module is None:
        yield
        return
    make = module.Cache.__init__

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise CacheMadeError("the model makes a cache")

    module.Cache.__init__ = refuse
    try:
        yield
    finally:
        module.Cache.__init__ = make


def takes_use_cache(model: nn.Module) -> bool:
    """Whether `forward` can be told to return no cache."""
    takes = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    return "use_cache" in takes or bool(var_keyword(model) and hasattr(config, "use_cache"))


def register_cache() -> None:
    """Lets DynamicCache pass through torch.export as `[layer].key` and `[layer].value`."""
    from transformers import DynamicCache

    if DynamicCache in pytree.SUPPORTED_NODES:
        return
    pytree.register_pytree_node(
        DynamicCache,
        lambda cache: ([{"key": x.keys, "value": x.values} for x in cache.layers], None),
        lambda layers, _: _cache(layers),
        serialized_type_name="transformers.cache_utils.DynamicCache",
        flatten_with_keys_fn=lambda cache: (
            [
                (pytree.SequenceKey(i), {"key": x.keys, "value": x.values})
                for i, x in enumerate(cache.layers)
            ],
            None,
        ),
    )


def _cache(layers: Any) -> Any:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for keys, values in (_pair(layer) for layer in layers):
        layer = DynamicLayer()
        layer.keys, layer.values = keys, values
        layer.dtype, layer.device = keys.dtype, keys.device
        layer.is_initialized = True
        cache.layers.append(layer)
    return cache


def _pair(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return (layer["key"], layer["value"]) if isinstance(layer, dict) else tuple(layer)


def is_growing(layer: Any) -> bool:
    """Whether a layer of a cache is keys and values that grow, and nothing else."""
    from transformers import cache_utils

    mixin = getattr(cache_utils, "LinearAttentionCacheLayerMixin", ())
    return isinstance(layer, cache_utils.DynamicLayer) and not isinstance(layer, mixin)


def cache_of(tensors: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    """A DynamicCache that holds these keys and values, one pair per layer."""
    register_cache()
    return _cache(tensors)


def restore_buffers(model: nn.Module) -> None:
    """Recomputes buffers that a transformers model lost on meta, as its own loading does.

    The owner's `_init_weights` runs twice over different fills; a buffer that it does not write
    differs, and is put back on meta for the caller to report.
    """
    if not is_pretrained(model):
        return
    lost = [n for n, b in non_persistent_buffers(model).items() if b.device.type == "meta"]
    for module_path in sorted({name.rpartition(".")[0] for name in lost}):
        module = model.get_submodule(module_path)
        names = [n.rpartition(".")[2] for n in lost if n.rpartition(".")[0] == module_path]
        meta = {n: module._buffers[n] for n in names}
        runs = [_initialised(model, module_path, meta, fill) for fill in (0, 1)]
        for n in names:
            same = torch.equal(runs[0][n], runs[1][n])
            module._buffers[n] = runs[1][n] if same else meta[n]


def _initialised(
    model: nn.Module, path: str, meta: dict[str, Any], fill: int
) -> dict[str, torch.Tensor]:
    """The buffers named in `meta` of the module at `path`, filled, then written by its owner."""
    module = model.get_submodule(path)
    owner = model
    parts = path.split(".") if path else []
    for i in range(1, len(parts) + 1):
        candidate = model.get_submodule(".".join(parts[:i]))
        owner = candidate if _is_root(candidate) else owner
    with _protected(model), torch.no_grad():
        for name, buffer in meta.items():
            module._buffers[name] = torch.full_like(buffer, fill, device="cpu")
        if _is_root(owner):
            owner._init_weights(module)  # type: ignore[operator]
        return {name: module._buffers[name] for name in meta}  # type: ignore[misc]


@contextmanager
def _protected(model: nn.Module) -> Iterator[None]:
    """Inside, parameters are on meta and other tensors are copies; afterwards all is as it was.

    `_init_weights` writes to everything that its module holds.
    """
    twins: dict[int, torch.Tensor] = {}

    def twin(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.device.type == "meta":
            return value
        if id(value) not in twins:
            is_parameter = isinstance(value, nn.Parameter)
            twins[id(value)] = _empty_twin(value) if is_parameter else value.clone()
        return twins[id(value)]

    with kept(model, twin):
        yield


def _empty_twin(parameter: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)


def config_json(model: nn.Module) -> dict[str, Any] | None:
    """The config of a transformers model as its `config.json` has it, without paths of a machine.

    None for every other model, and for one that only holds transformers models.
    """
    if not _is_root(model):
        return None
    config = json.loads(model.config.to_json_string(use_diff=False))  # type: ignore
    config.pop("_name_or_path", None)
    return config | origin_of(model.config)


def origin_of(config: Any) -> dict[str, str]:
    """Where on the hub a config is from, as entries of `config.json`; none where it does not say.

    A config that is read from a folder knows the folder, which in the hub's cache is of a commit.
    """
    name, commit = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
    if not name:
        return {}
    if isinstance(commit, str) and not Path(name).exists():
        return {"_commit_hash": commit, "_repository": name}
    return hub_place(Path(name).resolve())


def hub_place(folder: Path) -> dict[str, str]:
    """Repository and commit of a snapshot in the hub's cache; none of another folder."""
    place = r"/models--([^/]+)/snapshots/([0-9a-f]{40})$"
    found = re.search(place, folder.as_posix())
    if found is None:
        return {}
    return {"_commit_hash": found[2], "_repository": found[1].replace("--", "/")}
