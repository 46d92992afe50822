import contextlib
import functools
import importlib.util
import re
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxdd import inner
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks
from jaxdd.models import conv2d
from jaxdd.models.conv import implementations, onednn
from jaxdd.models.conv.geometry import Geometry

NHWC = ("NHWC", "HWIO", "NHWC")
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the forms chosen for CPUs")
with_onednn = pytest.mark.skipif(onednn.target() is None, reason="jaxdd-onednn is not installed")
ONEDNN = pytest.param("onednn", marks=with_onednn)
IMPLS = ["auto", "xla", "im2col", ONEDNN]
WITH_GROUPS = ["auto", "xla", ONEDNN]


@pytest.fixture(scope="module")
def operands():
    """Six channels: enough for "auto" to be the native convolution without oneDNN, and two groups of three."""
    key_x, key_w = jax.random.split(jax.random.key(0))
    return jax.random.normal(key_x, (2, 7, 6, 6)), jax.random.normal(key_w, (3, 3, 6, 4)) / 5


@pytest.fixture
def without_onednn(monkeypatch):
    """Functions must be new to JAX under it: what is compiled already stays."""
    monkeypatch.setattr(onednn, "target", lambda: None)


def native(x, w, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC, **options)


def assert_same(got, expected, tolerance=1e-5):
    """Error over the largest magnitude, leaf by leaf."""

    def check(path, a, b):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(), err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, got, expected)


def compiled(function, *arguments):
    """The result of `function`, with a compilation that is three times as cheap."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(options)(*arguments)


def value_and_gradients(convolve, x, w, g):
    value, transpose = jax.vjp(convolve, x, w)
    return value, *transpose(g)


def by_definition(x, w, strides, pads, dilation, groups=1):
    """Convolution and, for maps `g` of its shape, both gradients, kernel position by kernel position in float64.

    Not `lax`: XLA:CPU's own gradients read beyond their arrays where they have to crop.
    """
    if groups > 1:
        values, functions = zip(
            *(
                by_definition(*pair, strides, pads, dilation)
                for pair in zip(np.split(x, groups, -1), np.split(w, groups, -1), strict=True)
            ),
            strict=True,
        )

        def of_groups(g):
            parts = (f(part) for f, part in zip(functions, np.split(g, groups, -1), strict=True))
            return tuple(np.concatenate(part, -1) for part in zip(*parts, strict=True))

        return np.concatenate(values, -1), of_groups
    low = [max(0, pad) for pair in pads for pad in pair]
    crop = tuple(slice(max(0, -lo), size - max(0, -hi)) for (lo, hi), size in zip(pads, x.shape[1:3], strict=True))
    padded = np.pad(x[:, crop[0], crop[1]].astype("d"), ((0, 0), low[:2], low[2:], (0, 0)))
    out = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(padded.shape[1:3], w.shape, dilation, strides, strict=False)
    ]
    windows = {
        at: (
            slice(None),
            *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in zip(at, dilation, out, strides, strict=True)),
        )
        for at in np.ndindex(w.shape[:2])
    }

    def gradients(g):
        to_padded, to_w = np.zeros_like(padded), np.zeros(w.shape)
        for at, window in windows.items():
            to_padded[window] += g @ w[at].T
            to_w[at] = np.tensordot(padded[window], g, ((0, 1, 2), (0, 1, 2)))
        to_x = np.zeros(x.shape)
        to_x[:, crop[0], crop[1]] = to_padded[:, low[0] : to_padded.shape[1] - low[1], low[2] :][
            :, :, : to_padded.shape[2] - low[2] - low[3]
        ]
        return to_x, to_w

    return sum(padded[window] @ w[at] for at, window in windows.items()), gradients


def random_cases(count, batches, channels, outputs, paddings, seed=0):
    """Kernels of 1x1 to 7x7, strides and groups of 1 to 3, dilations of 1 and 2."""
    rng = np.random.default_rng(seed)
    for case in range(count):
        kernel, strides, dilation = (tuple(map(int, rng.integers(1, high, 2))) for high in (8, 4, 3))
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = paddings[case % len(paddings)]
        if isinstance(padding, int):  # explicit, from there on
            padding = tuple((int(low), int(high)) for low, high in rng.integers(padding, 3, (2, 2)))
        size = [int(rng.integers(e + 2, e + 7)) for e in extent]
        n, c, o = (int(rng.choice(sizes)) for sizes in (batches, channels, outputs))
        groups = int(rng.choice([1, 1, 2, 3]))
        yield (n, *size, groups * c), (*kernel, c, groups * o), strides, padding, dilation, groups


def special_cases():
    yield (2, 9, 43, 3), (3, 2, 3, 8), (2, 2), ((1, 0), (-1, 1)), (2, 3), 1
    yield (2, 9, 9, 5), (7, 7, 5, 3), (2, 2), "SAME", (1, 1), 1
    yield (2, 6, 28, 1), (3, 5, 1, 16), (1, 1), "SAME", (1, 1), 1
    yield (10, 8, 8, 8), (3, 3, 8, 8), (1, 1), ((3, 3), (3, 3)), (1, 1), 1


def exact_and_computed(rng, case, impls):
    """Value and both gradients of a case by definition, and a function that computes them, with its arguments."""
    x, w, strides, padding, dilation, groups = case
    x, w = (rng.normal(size=shape).astype("f") for shape in (x, w))
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[:2], dilation, strict=True)]
    pads = lax.padtype_to_pads(x.shape[1:3], extent, strides, padding) if isinstance(padding, str) else padding
    value, gradients = by_definition(x, w, strides, pads, dilation, groups)
    g = rng.normal(size=value.shape).astype("f")
    options = {
        "window_strides": strides,
        "padding": padding,
        "rhs_dilation": dilation,
        "feature_group_count": groups,
    }

    def ours(x, w, g):
        return [value_and_gradients(functools.partial(conv2d, impl=impl, **options), x, w, g) for impl in impls]

    return [(value, *gradients(g))] * len(impls), ours, (x, w, g)


def assert_same_in_one_program(rng, cases, impls_of):
    """What differs is told by its number among the cases."""
    expected, functions, arguments = zip(
        *(exact_and_computed(rng, case, impls_of(case)) for case in cases), strict=True
    )

    def all_of_them(arguments):
        return [f(*own) for f, own in zip(functions, arguments, strict=True)]

    assert_same(compiled(all_of_them, arguments), list(expected))


ANY_PADDING = ["SAME", "VALID", "SAME_LOWER", 0, -1]
FEW = [*random_cases(30, [1, 2, 19], [1, 3, 5, 6], [1, 2, 7], ANY_PADDING), *special_cases()]


@pytest.mark.parametrize("first", range(0, len(FEW), 12))
def test_values_and_gradients_of_any_shape(rng, first):
    assert_same_in_one_program(
        rng, FEW[first : first + 12], lambda case: ("xla",) if case[-1] > 1 else ("xla", "im2col")
    )


@with_onednn
@pytest.mark.parametrize("seed", range(8))
def test_onednn_for_200_random_shapes(rng, seed):
    """In one program, with channels that fill oneDNN's blocks of 16 and others that do not."""
    sizes = [1, 2, 9], [1, 3, 7, 16, 32], [1, 6, 16, 33]
    cases = random_cases(25, *sizes, ["SAME", "VALID", "SAME_LOWER", 0], seed)
    assert_same_in_one_program(rng, cases, lambda case: ("onednn",))


def second_order(convolve, x, w, g):
    """All three operations, and the derivatives of both gradients."""
    return jax.vjp(lambda x, w, g: (convolve(x, w), jax.vjp(convolve, x, w)[1](g)), x, w, g)[1]((g, (x[::-1], w[::-1])))


def every_order(convolve, x, w):
    """Derivatives to third order, in both modes, and in every loop."""

    def loss(w, x):
        return jnp.mean(jnp.tanh(convolve(x, w)) ** 2)

    def trained(x, step):
        return lax.scan(lambda w, _: (w - 0.5 * step(w, x), None), w, None, length=3)[0]

    def square(w, x):
        return jnp.sum(jax.grad(loss)(w, x) ** 2)

    ones, scales = jnp.ones_like(w), jnp.arange(1.0, 3.0)
    return {
        "jvp": jax.jvp(convolve, (x, w), (jnp.cos(x), ones))[1],
        "reverse over reverse": jax.grad(square)(w, x),
        "forward over reverse": jax.jvp(lambda w: jax.grad(loss)(w, x), (w,), (ones,))[1],
        "third": jax.jvp(lambda w: jax.jvp(jax.grad(loss), (w, x), (ones, x))[1], (w,), (ones,))[1],
        "third in reverse": jax.grad(lambda x: jax.jvp(lambda w: square(w, x), (w,), (ones,))[1])(x),
        "unrolled": jax.grad(lambda x: loss(trained(x, jax.grad(loss)), x))(x),
        "checkpointed": jax.grad(lambda x: loss(trained(x, jax.checkpoint(jax.grad(loss))), x))(x),
        "fwdrev": jax.grad(lambda x: loss(trained(x, inner.fwdrev_grad(loss)), x))(x),
        "fori_loop": lax.fori_loop(0, 3, lambda _, w: w - jax.grad(loss)(w, x), w),
        "mapped": lax.map(lambda s: jax.grad(loss)(s * w, x), scales),
        "gradient of a map": jax.grad(lambda w: lax.map(lambda s: loss(s * w, x), scales).sum())(w),
        "gradient of a vmap": jax.grad(lambda w: jax.vmap(lambda s: loss(s * w, s * x))(scales).sum())(w),
    }


@pytest.fixture(scope="module")
def expected_of_every_order(operands):
    return compiled(functools.partial(every_order, native), *operands)


@pytest.mark.parametrize("impl", IMPLS)
def test_every_order_and_transformation_agrees(operands, expected_of_every_order, impl):
    got = compiled(functools.partial(every_order, functools.partial(conv2d, impl=impl)), *operands)
    assert_same(got, expected_of_every_order, 2e-5)


# Where images and kernels have their axis of three, outermost vmap first.
BATCHES = {
    "none": [],
    "images": [(3, None)],
    "kernels": [(None, 4)],
    "both": [(0, 4)],
    "both twice": [(3, 0), (1, 4)],
    "images in kernels": [(None, 0), (0, None)],
    "kernels in images": [(0, None), (None, 1)],
    "both in images": [(1, None), (0, 0)],
    "both in kernels": [(None, 5), (0, 0)],
}


def of_groups(operands, groups):
    x, w = operands
    return x, w[:, :, : x.shape[-1] // groups]


def batched(batches, x, w, groups, convolve):
    """All operations and their derivatives, with further axes made of the operands times 1 to 3."""
    convolve = functools.partial(convolve, feature_group_count=groups)
    function = functools.partial(second_order, convolve, g=jnp.cos(convolve(x, w)))
    for axes in reversed(batches):
        x, w = (
            a if axis is None else jnp.stack([scale * a for scale in (1, 2, 3)], axis)
            for a, axis in zip((x, w), axes, strict=True)
        )
        function = jax.vmap(function, in_axes=axes, out_axes=-1)
    return function(x, w)


def all_batches(x, w, **options):
    return {name: batched(batches, x, w, **options) for name, batches in BATCHES.items()}


@pytest.fixture(scope="module")
def expected_of_batches(operands):
    return functools.cache(
        lambda groups: compiled(
            functools.partial(all_batches, groups=groups, convolve=native), *of_groups(operands, groups)
        )
    )


@pytest.mark.parametrize("impl", WITH_GROUPS)
@pytest.mark.parametrize("groups", [2, pytest.param(1, marks=pytest.mark.endurance)])
def test_a_batch_of_images_of_kernels_and_of_both(operands, expected_of_batches, groups, impl):
    ours = functools.partial(all_batches, groups=groups, convolve=functools.partial(conv2d, impl=impl))
    assert_same(compiled(ours, *of_groups(operands, groups)), expected_of_batches(groups), 2e-5)


@on_cpu
def test_no_batch_makes_a_grouped_convolution(operands):
    x, w = (jnp.stack([a, a]) for a in operands)

    def gradients(x, w):
        return jax.vmap(jax.grad(lambda x, w: conv2d(x, w, impl="xla").sum(), (0, 1)))(x, w)

    groups = re.findall(r"(?:feature|batch)_group_count = (\d+)", jax.jit(gradients).lower(x, w).as_text())
    assert groups
    assert set(groups) == {"1"}


def forms(function, *arguments):
    """The layout and the reversal of every convolution in what XLA gets."""
    text = jax.jit(function).lower(*arguments).as_text()
    layouts = [found.replace(" ", "") for found in re.findall(r"dim_numbers = (.+?), window", text)]
    return layouts, re.findall(r"reverse = \[([^\]]*)\]", text)


@on_cpu
def test_derivatives_take_the_form_that_is_fast_in_loops(operands):
    """XLA:CPU rewrites others outside of loops only; `lax`'s own derivatives have another one."""

    def meta_gradient(convolve):
        return jax.grad(lambda x, w: jnp.sum(jax.grad(lambda w: jnp.sum(convolve(x, w) ** 3))(w) ** 2), (0, 1))

    fast = "[b,0,1,f]x[0,1,i,o]->[b,0,1,f]"
    layouts, reversals = forms(meta_gradient(functools.partial(conv2d, impl="xla")), *operands)
    assert len(layouts) >= 4
    assert set(layouts) == {fast}
    assert "true" not in ",".join(reversals)
    layouts, _ = forms(meta_gradient(native), *operands)
    assert set(layouts) != {fast}


def value_and_sum_gradients(x, w, **options):
    return jax.value_and_grad(lambda x, w: conv2d(x, w, **options).sum(), (0, 1))(x, w)


@on_cpu
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "convolutions"),
    [(1, 3, 1, 1), (2, 3, 1, 3), (8, 1, 1, 0), (8, 1, 2, 0), (8, 3, 2, 2)],
)
def test_without_onednn_auto_takes_columns_where_they_are_faster(
    without_onednn, channels, kernel, stride, convolutions
):
    """For single pixels, for images of one channel except in weight gradients, for input gradients with strides."""
    x, w = np.ones((2, 6, 6, channels), "f"), np.ones((kernel, kernel, channels, 4), "f")
    gradients = functools.partial(value_and_sum_gradients, window_strides=(stride, stride))
    assert len(forms(gradients, x, w)[0]) == convolutions


@with_onednn
@pytest.mark.parametrize(("channels", "kernel", "groups"), [(1, 3, 1), (8, 1, 1), (8, 3, 1), (8, 3, 4)])
def test_with_onednn_auto_takes_it(channels, kernel, groups):
    x, w = np.ones((2, 6, 6, channels), "f"), np.ones((kernel, kernel, channels // groups, 4), "f")
    gradients = functools.partial(value_and_sum_gradients, feature_group_count=groups)
    text = jax.jit(gradients).lower(x, w).as_text()
    # The input gradient of one channel is faster by im2col.
    assert text.count(f"@{onednn.target()}") == (2 if channels == 1 else 3)
    assert "stablehlo.convolution" not in text


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_under_shard_map_are_those_of_one_device(operands, impl):
    """A replicated kernel's gradient is summed over the devices that share the images."""
    x, w = operands
    x = jnp.concatenate([x, 2 * x])
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("devices"), PartitionSpec()

    def loss(convolve, x, w):
        return jnp.sum(jnp.tanh(convolve(x, w)) ** 2)

    def shared(x, w):
        return lax.psum(loss(functools.partial(conv2d, impl=impl), x, w), "devices")

    shared = jax.shard_map(shared, mesh=mesh, in_specs=(split, whole), out_specs=whole)
    expected = jax.jit(jax.grad(functools.partial(loss, native), (0, 1)))(x, w)
    assert_same(jax.jit(jax.grad(shared, (0, 1)))(x, w), expected, 2e-5)


@pytest.mark.parametrize("impl", WITH_GROUPS)
def test_networks_shared_by_devices_and_side_by_side(operands, impl):
    """Four devices with two networks each, all at once."""
    x, w = operands

    def update(x, ws, convolve):
        def trained(w):
            loss = inner.fwdrev_grad(lambda w, x: jnp.mean(jnp.tanh(convolve(x, w)) ** 2))
            return lax.scan(lambda w, _: (w - 0.5 * loss(w, x), None), w, None, length=3)[0]

        return inner.map_networks(trained, ws)

    ws = jnp.stack([scale * w for scale in np.linspace(0.5, 2, 8, dtype="f")])
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(AxisType.Auto,))
    ours = share_networks(functools.partial(update, convolve=functools.partial(conv2d, impl=impl)), mesh)
    assert_same(jax.jit(ours)(x, ws), jax.jit(functools.partial(update, convolve=native))(x, ws))


def test_precision_and_half_precision_are_kept(operands):
    half = [a.astype(jnp.bfloat16) for a in operands]
    assert conv2d(*half).dtype == jnp.bfloat16
    assert "HIGHEST" in jax.jit(functools.partial(conv2d, precision="highest", impl="xla")).lower(*operands).as_text()


@pytest.mark.parametrize("options", [{"feature_group_count": 2}, {"padding": "CIRCULAR"}, {"strides": 2}])
def test_drops_into_linen_conv(operands, options):
    x, _ = operands
    ours = nn.Conv(10, (3, 3), conv_general_dilated=conv2d, **options)
    theirs = nn.Conv(10, (3, 3), **options)
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    found, expected = jax.jit(lambda variables: [conv.apply(variables, x) for conv in (ours, theirs)])(variables)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_drops_into_one_dimensional_dilated_convolutions():
    x = np.linspace(-1, 1, 40, dtype="f").reshape(2, 10, 2)
    ours, theirs = (nn.Conv(3, (3,), kernel_dilation=2, conv_general_dilated=c) for c in (conv2d, None))
    variables = jax.jit(theirs.init)(jax.random.key(0), x)
    found, expected = jax.jit(lambda variables: [conv.apply(variables, x) for conv in (ours, theirs)])(variables)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": ((1, 1), (0, 2)), "lhs_dilation": (2, 2)},
        {"dimension_numbers": ("NHWC", "OIHW", "NHWC")},
        {"padding": "VALID", "rhs_dilation": (4, 1)},  # the kernel does not fit: an empty result
    ],
)
def test_what_has_no_form_here_is_left_to_lax(operands, options):
    x, w = operands
    if "dimension_numbers" in options:
        w = w.transpose(3, 2, 0, 1)
    options = {"dimension_numbers": NHWC, "padding": "SAME", "window_strides": (1, 1)} | options
    expected = lax.conv_general_dilated(x, w, **options)
    np.testing.assert_array_equal(conv2d(x, w, impl="im2col", **options), expected)


def test_unknown_implementation_suggests_the_nearest(operands):
    with pytest.raises(JaxddError, match="unknown convolution 'im2cool'; did you mean 'im2col'"):
        conv2d(*operands, impl="im2cool")
    with pytest.raises(JaxddError, match="unknown convolution 'onedn'; did you mean 'onednn'"):
        conv2d(*operands, impl="onedn")


@on_cpu
@pytest.mark.parametrize(
    ("x64_on", "installed", "options", "sentence"),
    [
        pytest.param(True, True, {}, 'convolution "onednn" computes in float32, not in float64.', marks=with_onednn),
        (False, True, {"padding": ((-1, 1), (0, 2))}, "has no negative padding, as in ((-1, 1), (0, 2))."),
        (False, False, {}, 'convolution "onednn" is not installed: `pip install ./native` in the repository.'),
    ],
)
def test_what_onednn_cannot_do_raises(operands, x64, monkeypatch, x64_on, installed, options, sentence):
    if not installed:
        monkeypatch.setattr(onednn, "target", lambda: None)
    with x64() if x64_on else contextlib.nullcontext():
        x, w = (np.asarray(a, "d" if x64_on else "f") for a in operands)
        with pytest.raises(JaxddError, match=re.escape(sentence)):
            conv2d(x, w, impl="onednn", **options)


@pytest.fixture
def package(monkeypatch):
    """What stands in for jaxdd-onednn, None for nothing, as if the process had not looked for it yet."""
    find_spec = importlib.util.find_spec

    def install(module):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: module if name == "jaxdd_onednn" else find_spec(name, *rest),
        )
        monkeypatch.setitem(sys.modules, "jaxdd_onednn", module)
        onednn.target.cache_clear()

    yield install
    onednn.target.cache_clear()


@on_cpu
def test_a_broken_install_warns_once_and_computes_without(operands, package):
    def register(interface):
        raise ImportError("libdnnl.so.3 is missing")

    package(types.SimpleNamespace(register=register))
    with pytest.warns(UserWarning, match=r"jaxdd-onednn cannot be used.*: libdnnl\.so\.3 is missing") as caught:
        got = [jax.jit(functools.partial(conv2d, padding=padding))(*operands) for padding in ("SAME", "VALID")]
    assert len(caught) == 1
    assert_same(got, [native(*operands, padding=padding) for padding in ("SAME", "VALID")])
    with pytest.raises(JaxddError, match="is not installed"):
        conv2d(*operands, impl="onednn")


@on_cpu
@pytest.mark.parametrize(("machine", "sentences"), [("x86_64", 1), ("arm64", 0)])
def test_advice_is_for_whom_it_would_help(operands, package, monkeypatch, machine, sentences):
    """Only after convolutions, and only where the package can be built."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    package(None)
    assert onednn.advice() is None
    jax.jit(functools.partial(conv2d))(*operands)
    assert (onednn.advice() or "").count("faster with the optional package jaxdd-onednn: `pip install") == sentences


@jax.jit
def exactly(x, w, g):
    return value_and_gradients(native, x, w, g)


@jax.jit
def in_bfloat16(x, w, g):
    """What bf16 arithmetic gives: operands are rounded, products and sums are not."""
    x, w, g = (a.astype(jnp.bfloat16).astype(a.dtype) for a in (x, w, g))
    return value_and_gradients(native, x, w, g)


@pytest.mark.parametrize("how", ["argument", "context", "float32"])
@pytest.mark.parametrize("impl", IMPLS)
def test_bfloat16_arithmetic_is_asked_for(operands, impl, how):
    """By argument or context, for gradients too, where the context counts that the convolution was written in."""
    x, w = operands
    g = jnp.cos(native(x, w))
    options = {"precision": "bfloat16"} if how == "argument" else {}
    convolve = functools.partial(conv2d, impl=impl, **options)
    with jax.default_matmul_precision("bfloat16") if how == "context" else contextlib.nullcontext():
        value, transpose = jax.vjp(convolve, x, w)
        traced = jax.jit(functools.partial(value_and_gradients, convolve)).trace(x, w, g)
    eager, later = (value, *transpose(g)), traced.lower().compile()(x, w, g)
    exact = exactly(x, w, g)
    for got in (eager, later):
        if how == "float32":
            assert_same(got, exact)
            continue
        assert_same(got, in_bfloat16(x, w, g))
        for a, b in zip(got, exact, strict=True):
            assert 1e-4 < np.abs(a - b).max() / np.abs(b).max() < 1e-2


def test_precision_of_a_context_counts_where_a_function_is_traced(operands):
    x, w = operands
    exact, convolve = native(x, w), jax.jit(conv2d)
    with jax.default_matmul_precision("bfloat16"):
        rounded = convolve(x, w)
    assert np.abs(rounded - exact).max() > 1e-4 * np.abs(exact).max()
    assert_same(convolve(x, w), exact)


@pytest.mark.parametrize("impl", ["xla", "im2col", ONEDNN])
def test_bfloat16_keeps_to_second_derivatives_and_networks(operands, impl):
    x, w = operands

    def slope(x, **options):
        def loss(w, x):
            return jnp.mean(jnp.tanh(conv2d(x, w, impl=impl, **options)) ** 2)

        return jax.vmap(lambda w: jnp.sum(jax.grad(loss)(w, x) ** 2))(jnp.stack([w, 2 * w])).sum()

    rounded, exact = (compiled(jax.grad(functools.partial(slope, **o)), x) for o in ({"precision": "bfloat16"}, {}))
    assert 1e-4 < np.abs(rounded - exact).max() / np.abs(exact).max() < 5e-2


@pytest.mark.parametrize("kernel", [1, 3])
def test_what_a_convolution_is_shows_when_it_is_compiled(operands, kernel):
    """One trace for a CPU, a GPU and a TPU: at the precision "bfloat16" operands and results on a GPU are in it."""
    x, w = operands
    w = w[:kernel, :kernel]
    g = jnp.cos(native(x, w))
    traced = jax.jit(functools.partial(value_and_gradients, functools.partial(conv2d, precision="bfloat16"))).trace
    for platform, expected in ("cpu", {"f32"}), ("cuda", {"bf16"}), ("tpu", {"f32"}):
        text = traced(x, w, g).lower(lowering_platforms=(platform,)).as_text()
        products = re.findall(r"stablehlo\.convolution.*-> tensor<.*>", text)
        assert len(products) == 3 or platform == "cpu"
        assert {kind for each in products for kind in re.findall(r"tensor<[^>]*x(\w+)>", each)} <= expected
    text = jax.jit(conv2d).trace(x, w).lower(lowering_platforms=("cuda",)).as_text()
    assert "bf16" not in text and text.count("stablehlo.convolution") == 1
    with pytest.raises(JaxddError, match='"onednn" is for CPUs, and this is compiled for a GPU'):
        onednn.operation("conv")(x, w, None, "gpu")


@pytest.mark.parametrize(("networks", "calls"), [(3, 3), (40, 1)])
def test_networks_side_by_side_are_no_grouped_convolution(operands, networks, calls):
    """For a GPU each has a call of its own, and many are in a loop."""
    x, w = (jnp.stack([operand * k for k in range(1, networks + 1)]) for operand in operands)
    together = jax.jit(jax.vmap(conv2d))
    text = together.trace(x, w).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.convolution") == calls
    assert "feature_group_count = 1 " in text and f"feature_group_count = {networks}" not in text


@pytest.mark.parametrize("networks", [False, True])
@pytest.mark.parametrize(("groups", "strides"), [(1, (2, 1)), (2, (1, 1))])
def test_operations_for_a_gpu_are_the_same(operands, groups, strides, networks):
    """Here on a CPU, and in bfloat16 as near as that is: three roundings to eight bits."""
    x, w = operands
    w = w[:, :, : 6 // groups]
    geometry = Geometry(x.shape[1:3], (3, 3), strides, ((1, 1), (0, 2)), (1, 1), groups, None)
    g = jnp.cos(compiled(lambda x, w: implementations.IMPLEMENTATIONS["xla"].conv(x, w, geometry, "cpu"), x, w))
    pairs = {"conv": (x, w), "input_grad": (g, w), "weight_grad": (x, g)}

    def everything(platform, precision):
        of, found = implementations.IMPLEMENTATIONS["auto"], []
        for name, pair in pairs.items():
            pair = tuple(jnp.stack([each, 2 * each]) for each in pair) if networks else pair
            found.append(getattr(of, name)(*pair, geometry._replace(precision=precision), platform))
        return found

    ours = {of: compiled(functools.partial(everything, *of)) for of in (("cpu", None), ("gpu", None), ("tpu", None))}
    assert_same(ours["gpu", None], ours["cpu", None])
    assert_same(ours["tpu", None], ours["cpu", None])
    assert_same(compiled(functools.partial(everything, "gpu", "bfloat16")), ours["cpu", None], 1.5e-2)
