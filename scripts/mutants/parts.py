"""Operators that know what distillation is made of: augmentation, decays, momentum, keys, stop-gradients."""

from __future__ import annotations

import ast

from mutants.registry import Changes, operator
from mutants.source import Module, called, dotted, words

_IDENTITY = "optax.identity()"
# Transformations of gradients, and what a method does to a set after a step.
_DECAYS = words("add_decayed_weights clip clip_by_global_norm clip_by_running_norm")
# Of these, the argument that is a constant rate instead, or what is handed on.
_SCHEDULES = {"exponential_decay": 0, "cosine_decay_schedule": 0, "linear_schedule": 1}
_PASSED_ON = {"clipped": 0, "project": 0, "moving_average": 1, "corrupted": 0}
_AUGMENTED = words("_colour _cutout _resample")


@operator
def skip_augmentation(module: Module, node: ast.AST) -> Changes:
    """Images as they are: of `augment.apply(..)`, its steps, `cutmix(..)` and a named augmentation."""
    if not isinstance(node, ast.Call):
        return
    mapped = isinstance(node.func, ast.Call) and called(node.func) == "vmap" and node.func.args
    function = node.func.args[0] if mapped else node.func
    name = dotted(function)
    if (name.endswith("augment.apply") or name in _AUGMENTED) and node.args:
        first = node.args[0]
        if isinstance(first, ast.Starred):  # of `(images, draw)`
            yield module.span(node), f"{module.operand(first.value)}[0]"
        else:
            yield module.span(node), module.operand(first)
    elif name.rpartition(".")[2] == "cutmix" and len(node.args) == 3:
        yield module.span(node), f"({module.text(node.args[1])}, {module.text(node.args[2])})"
    elif name in ("augmentation.named", "named") and node.args and not isinstance(module.parent(node), ast.Expr):
        yield module.span(node.args[0]), '"none"'


@operator
def skip_decay(module: Module, node: ast.AST) -> Changes:
    """No weight decay, clipping, schedule, penalty, projection or moving average; the rate stays where it starts."""
    if isinstance(node, ast.keyword) and node.arg in ("penalty", "weight_decay", "relabel"):
        if isinstance(module.parent(node), ast.Call) and not isinstance(node.value, ast.Constant):
            yield module.span(node.value), "0.0" if node.arg == "weight_decay" else "None"
        elif isinstance(node.value, ast.Constant) and node.value.value and node.arg == "weight_decay":
            yield module.span(node.value), "0.0"
    if not isinstance(node, ast.Call):
        return
    name, owner = called(node), dotted(node.func).rpartition(".")[0]
    if name in _DECAYS and owner in ("", "optax", "synthetic"):
        yield module.span(node), _IDENTITY
    elif name in _SCHEDULES and len(node.args) > _SCHEDULES[name]:
        yield module.span(node), f"optax.constant_schedule({module.text(node.args[_SCHEDULES[name]])})"
    elif name in _PASSED_ON and len(node.args) > _PASSED_ON[name]:
        yield module.span(node), module.operand(node.args[_PASSED_ON[name]])


@operator
def plain_descent(module: Module, node: ast.AST) -> Changes:
    """An optimiser without its momentum or its decay: `sgd(rate)` for one with momentum, Adam for AdamW and LAMB."""
    if not isinstance(node, ast.Call):
        return
    name = dotted(node.func)
    if name in ("optax.adamw", "optax.lamb") and node.args:
        yield module.span(node), f"optax.adam({module.text(node.args[0])})"
    elif name == "optax.trace":
        yield module.span(node), _IDENTITY
    elif name == "optax.sgd" and any(keyword.arg == "momentum" for keyword in node.keywords):
        yield module.span(node), f"optax.sgd({module.text(node.args[0])})"
    elif name in ("inner.sgd", "sgd") and node.args:
        yield module.span(node), f"{name}()"
    elif name == "inner.adam":
        yield module.span(node), "inner.sgd()"


@operator
def reuse_key(module: Module, node: ast.AST) -> Changes:
    """The first key of a split where another one belongs, and the key itself instead of what is folded in."""
    if isinstance(node, ast.Call) and called(node) == "fold_in" and node.args:
        yield module.span(node), module.operand(node.args[0])
    match node:
        case ast.Assign(targets=[ast.Tuple()], value=ast.Call(func=function)) if dotted(function) == "jax.random.split":
            pass
        case _:
            return
    keys = [each.id for each in node.targets[0].elts if isinstance(each, ast.Name) and each.id != "_"]
    function = next(iter(module.functions(node)), module.tree)
    for use in _uses(function, set(keys[1:])):
        if module.span(use) > module.span(node):
            yield module.span(use), keys[0]


def _uses(node: ast.AST, wanted: set[str]) -> list[ast.Name]:
    """Where names are read, but not where an inner function has arguments of the same name."""
    found = []
    for child in ast.iter_child_nodes(node):
        inner = wanted
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            inner = wanted - {each.arg for each in (*child.args.args, *child.args.kwonlyargs)}
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and child.id in wanted:
            found.append(child)
        found += _uses(child, inner)
    return found


@operator
def forget_stop_gradient(module: Module, node: ast.AST) -> Changes:
    """`x` for `jax.lax.stop_gradient(x)`."""
    if isinstance(node, ast.Call) and called(node) == "stop_gradient":
        yield module.span(node), module.operand(node.args[0])
