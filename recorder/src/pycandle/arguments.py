"""The arguments of a call of forward: by name, flat, and in the order of the signature."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .errors import RecordError

PLAIN = (torch.Tensor, bool, int, float, str, type(None))  # what a trace has a form for


@dataclass(frozen=True)
class Leaf:
    """One flat argument or result: its pytree path and an identifier made of it."""

    path: str
    name: str
    value: Any


def in_signature_order(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """`kwargs` in the order in which forward lists them."""
    order = list(inspect.signature(model.forward).parameters)
    rank = {name: i for i, name in enumerate(order)}
    return dict(sorted(kwargs.items(), key=lambda item: rank.get(item[0], len(order))))


def by_name(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], defaults: bool = False
) -> dict[str, Any]:
    """The arguments by the names of forward's parameters; those of `*xs` are one tuple, `xs`.

    Those of `**kwargs` keep their own names; with `defaults` those left out are there as well.
    Raises RecordError when forward does not take them.
    """
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise RecordError(
            f"forward of {type(model).__name__} takes other arguments: {error}"
        ) from error
    if defaults:
        bound.apply_defaults()
    found: dict[str, Any] = {}
    rest = var_keyword(model)
    for name, value in bound.arguments.items():
        found.update(value if name == rest else {name: value})
    return found


def var_keyword(model: nn.Module) -> str | None:
    """The name of forward's `**kwargs`, when it has one."""
    parameters = inspect.signature(model.forward).parameters.values()
    return next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)


def var_positional(model: nn.Module) -> str | None:
    """The name of forward's `*args`, when it has one."""
    parameters = inspect.signature(model.forward).parameters.values()
    return next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)


def argument_leaves(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Leaf, ...]:
    """The flat arguments, in the order in which a trace has them."""
    found = tuple(leaves(by_name(model, args, in_signature_order(model, args, kwargs))))
    refused = [
        f"the argument `{leaf.path}` is of type {type(leaf.value).__name__}"
        for leaf in found
        if not isinstance(leaf.value, PLAIN)
    ]
    if refused:
        raise RecordError(
            f"{', '.join(refused)}, which the manifest has no form for: give tensors, numbers and "
            "strings, alone or in tuples, lists, dicts and dataclasses"
        )
    return found


def plain_leaves(arguments: Any) -> dict[str, Any]:
    """What of nested arguments is no tensor, by path."""
    return {e.path: e.value for e in leaves(arguments) if not isinstance(e.value, torch.Tensor)}


def take_dataclasses(tree: Any) -> None:
    """Lets the dataclasses in `tree` pass through a trace field by field, as dicts do."""
    for leaf in pytree.tree_leaves(tree):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, (type, *PLAIN)):
            torch.export.register_dataclass(type(leaf))
            take_dataclasses([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])


def leaves(tree: Any) -> Iterator[Leaf]:
    """The flat elements of nested arguments or results."""
    flat, _ = pytree.tree_flatten_with_path(tree)
    taken: set[str] = set()
    for keys, value in flat:
        path = ""
        for key in keys:
            if isinstance(key, pytree.SequenceKey):
                path += f"[{key.idx}]"
            elif isinstance(key, pytree.MappingKey):
                path += f".{key.key}" if path else str(key.key)
            else:
                attribute = str(getattr(key, "name", key))
                path += f".{attribute}" if path else attribute
        name = unique(identifier(path), taken)
        yield Leaf(path, name, value)


def identifier(path: str) -> str:
    """An identifier made of a path: `past_key_values[0].key` is `past_key_values_0_key`."""
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in path)
    text = "_".join(part for part in text.split("_") if part)
    if not text:
        return "output"
    return text if not text[0].isdigit() else f"output_{text}"


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, … where that is taken; takes it."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate
