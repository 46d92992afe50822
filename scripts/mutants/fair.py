"""What no mutant touches: what says something instead of computing it, and what cannot make a result wrong.

Left out for every operator:

* docstrings and other texts, messages and whatever is raised or logged, annotations, imports, decorators, `__all__`;
* checks of arguments: `if ..: raise`, `if ..: return "what is wrong"`, `require(..)`, `check_integer(..)` and its like,
  all of `__post_init__` and `check`, and the range of a `field(..)`. A method's mathematics is not in them; whether a
  check is there at all is what `skip_check` asks;
* shapes, axes and the number of keys in a split: a wrong one fails at once, by its shape, whatever the tests are like;
* what belongs to the machine (`block`, `side_by_side`, `remat`, bytes, seconds, tolerances ..): another
  value, or another branch by it, gives the same result.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from mutants.source import Module, called, dotted, names, words

# Of the machine, or of rounding: words of a name ..
_WORDS = words(
    "atol backend block buffer bytes endless eps epsilon float64 overhead precision process progress remat rtol "
    "seconds tensorboard threads timeout tiny tol tolerance version workers"
)
# .. and whole names.
_NAMES = words(
    "cache files_per_task last_words log_every matrix_pixels max_workers maxiter measured_steps "
    "networks_per_batch side_by_side window_steps"
)
_STRUCTURE = words(
    "argnums axes axis axis1 axis2 donate_argnums dtype has_aux in_axes in_shardings indent keepdims ndim num out_axes "
    "shape static_argnames static_argnums"
)
# Of these functions, from which positional argument on they are shapes, axes or numbers of things; methods of an array
# have one argument less.
_SHAPED = {
    "all": 1, "any": 1, "argmax": 1, "argmin": 1, "argsort": 1, "broadcast_to": 1, "concatenate": 1, "empty": 0,
    "expand_dims": 1, "eye": 0, "flip": 1, "max": 1, "mean": 1, "min": 1, "moveaxis": 1, "normal": 1, "ones": 0,
    "permutation": 1, "repeat": 1, "reshape": 1, "roll": 2, "softmax": 1, "split": 1, "squeeze": 1, "stack": 1,
    "sum": 1, "swapaxes": 1, "take_along_axis": 2, "tile": 1, "transpose": 1, "vmap": 1, "zeros": 0,
    "ShapeDtypeStruct": 0,
}  # fmt: skip
# The one argument of these that is a shape.
_SHAPE_AT = {"full": 0, "uniform": 1, "randint": 1, "bernoulli": 2, "choice": 2}
_SPEECH = words(
    "JaxddError ValueError TypeError RuntimeError KeyError unknown require warn warning info debug print isinstance "
    "issubclass hasattr TypeVar NewType write_text add_argument"
)


def of_the_machine(module: Module, name: str) -> bool:
    """Whether a name is of what decides about time and memory, or about rounding, but not about results."""
    name = name.lower().lstrip("_")
    # Elsewhere it is how many networks, or rows of a kernel, are computed side by side.
    if name == "batch_size" and not ("/evaluation/" in module.path or "/training/" in module.path):
        return True
    return name in _NAMES or not _WORDS.isdisjoint(name.split("_"))


def mentions_the_machine(module: Module, node: ast.AST) -> bool:
    return any(of_the_machine(module, name) for name in names(node))


def is_check(node: ast.AST, module: Module) -> bool:
    """`if ..: raise ..`, or `if ..: return "what is wrong"` in a function that returns such a sentence or None."""
    if not isinstance(node, ast.If):
        return False
    last = node.body[-1]
    if isinstance(last, ast.Raise):
        return all(isinstance(each, ast.Assign | ast.Raise | ast.AnnAssign) for each in node.body)
    if not isinstance(last, ast.Return) or not isinstance(last.value, ast.Constant | ast.JoinedStr):
        return False
    function = next(iter(module.functions(node)), None)
    returns = getattr(function, "returns", None)
    return returns is not None and module.text(returns) == "str | None"


def _left_out(module: Module) -> Iterator[ast.AST | None]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Delete():
                yield node
            case ast.If() if is_check(node, module):
                yield node.test
                yield from node.body
            case ast.FunctionDef():
                yield node.returns
                yield from node.decorator_list
                if node.name in ("__post_init__", "__repr__", "__str__", "check"):
                    yield from node.body
            case ast.ClassDef():
                yield from node.decorator_list
            case ast.arg():
                yield node.annotation
            case ast.AnnAssign():
                yield node.annotation
            case ast.Assign(targets=[ast.Name(id=name)]) if name == "__all__" or _names_a_type(name):
                yield node
            case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper() and of_the_machine(module, name):
                yield node
            case ast.Subscript(value=ast.Attribute(attr="shape")):
                yield node.slice
            case ast.keyword() if node.arg in _STRUCTURE:
                yield node.value
            case ast.Call():
                yield from _left_out_of_call(node)


def _left_out_of_call(node: ast.Call) -> Iterator[ast.AST]:
    name = called(node)
    if name in _SPEECH or name.lstrip("_").startswith("check_") or dotted(node.func).startswith("logging."):
        yield from (*node.args, *node.keywords)
    arguments = list(node.args)
    if name == "field":
        yield from arguments[1:]
    if name in _SHAPED and isinstance(node.func, ast.Attribute):
        of_array = dotted(node.func.value).split(".")[0] not in ("jax", "jnp", "lax", "np", "optax")
        yield from arguments[max(0, _SHAPED[name] - of_array) :]
    if name in _SHAPE_AT and len(arguments) > _SHAPE_AT[name]:
        yield arguments[_SHAPE_AT[name]]


def _names_a_type(name: str) -> bool:
    return name[:1].isupper() and not name.isupper()


@functools.cache
def _untouched(module: Module) -> frozenset[ast.AST]:
    roots = (root for root in _left_out(module) if root is not None)
    return frozenset(node for root in roots for node in ast.walk(root))


def is_fair(module: Module, node: ast.AST) -> bool:
    """Whether a change of this node could make a result wrong."""
    return node not in _untouched(module)
