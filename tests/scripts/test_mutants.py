"""The script that makes wrong code: each operator's effect and what it leaves out, the draw, one real trial."""

import importlib
import json
import pathlib
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts():
    """A module of the script, by its name."""
    return lambda name: importlib.import_module(f"mutants.{name}")


@pytest.fixture(scope="module")
def made(parts):
    """What an operator makes of a source, as a set of sources."""

    def sources(operator, source, path="jaxdd/methods/toy.py"):
        content = textwrap.dedent(source).encode()
        found = [mutant for mutant in parts("operators").mutants_of(path, content) if mutant.operator == operator]
        for mutant in found:
            compile(mutant.applied(content), path, "exec")
        return {mutant.applied(content).decode() for mutant in found}

    return sources


@pytest.fixture(scope="module")
def everything(parts):
    """All mutants of this tree."""
    return parts("draw").generated(ROOT)


@pytest.fixture
def command(parts, everything, monkeypatch):
    """The command line for this tree, whose mutants are made once."""
    monkeypatch.setattr(parts("command"), "generated", lambda root: everything)
    return parts("command").main


MAKES = [
    ("drop_term", "x = a + b", {"x = a", "x = b"}),
    ("drop_term", "x = a - b * c", {"x = a", "x = a - b", "x = a - c"}),
    ("drop_term", "x = 2 * (a + b)", {"x = (a + b)", "x = 2", "x = 2 * (a)", "x = 2 * (b)"}),
    ("drop_term", "x = a / b", {"x = a"}),
    ("drop_term", "x = a + 0", {"x = 0"}),
    ("drop_term", "x = a + 1e-6", {"x = 1e-6"}),
    ("drop_term", "x = jax.tree.map(jnp.add, a, b)", {"x = a", "x = b"}),
    ("drop_term", "x = jax.tree.map(jnp.add, *parts)", {"x = parts[0]", "x = parts[1]"}),
    ("drop_term", "x += y", {"pass"}),
    ("flip_sign", "x = a - b + 1", {"x = a + b + 1", "x = (a - b) - 1"}),
    ("flip_sign", "x = -f(y)", {"x = f(y)"}),
    ("swap_operands", "x = a - b", {"x = b - a"}),
    ("swap_operands", "x = jax.tree.map(jnp.subtract, a, b)", {"x = jax.tree.map(jnp.subtract, b, a)"}),
    ("drop_function", "x = jnp.sqrt(a + b)", {"x = (a + b)"}),
    ("drop_function", "x = y**2", {"x = y"}),
    ("swap_mean_and_sum", "x = jnp.mean(a) + b.sum(0)", {"x = jnp.sum(a) + b.sum(0)", "x = jnp.mean(a) + b.mean(0)"}),
    ("swap_extremes", "x = jnp.maximum(a, 0)", {"x = jnp.minimum(a, 0)"}),
    ("swap_extremes", "x = max(a, b.max())", {"x = min(a, b.max())", "x = max(a, b.min())"}),
    ("scale_constant", "x = 0.1 * y", {"x = 0.2 * y"}),
    ("scale_constant", "x = optax.sgd(rate, momentum=0.9)", {"x = optax.sgd(rate, momentum=0.45)"}),
    ("scale_constant", "x = Protocol(epochs=300)", {"x = Protocol(epochs=600)"}),
    ("scale_default", "class A:\n    rate: float = 0.1", {"class A:\n    rate: float = 0.2"}),
    ("scale_default", "class A:\n    n: int = field(3, at_least(1))", {"class A:\n    n: int = field(6, at_least(1))"}),
    ("scale_default", "def f(a, *, b=3): ...", {"def f(a, *, b=6): ..."}),
    ("swap_constants", "x = {10: (10, 50)}", {"x = {10: (50, 10)}"}),
    ("swap_constants", "x = f(minval=-2.0, maxval=3.0)", {"x = f(minval=3.0, maxval=-2.0)"}),
    ("off_by_one", "x = layers[-2]", {"x = layers[-3]"}),
    ("off_by_one", "x = t + 1", {"x = t + 2"}),
    ("off_by_one", "for t in range(n): ...", {"for t in range(n - 1): ..."}),
    ("off_by_one", "x = (a < b) & (b >= c)", {"x = (a <= b) & (b >= c)", "x = (a < b) & (b > c)"}),
    ("off_by_one", "x = jax.random.randint(key, (), 1, n)",
     {"x = jax.random.randint(key, (), 2, n)", "x = jax.random.randint(key, (), 1, n - 1)"}),
    ("negate_condition", "x = a if k == 1 else b", {"x = a if k != 1 else b"}),
    ("negate_condition", "if fixed:\n    x = 1", {"if not fixed:\n    x = 1"}),
    ("drop_condition", "x = full(a) & (b < c)", {"x = full(a)", "x = (b < c)"}),
    ("drop_condition", "x = epochs or published", {"x = epochs", "x = published"}),
    ("flip_flag", "x = network.apply(theta, images, stats, train=True)",
     {"x = network.apply(theta, images, stats, train=False)"}),
    ("swap_arguments", "x = jnp.where(good, new, old)", {"x = jnp.where(good, old, new)"}),
    ("swap_arguments", "def f(a: Array, b: Array, k: Key):\n    return g(a, b, k)",
     {"def f(a: Array, b: Array, k: Key):\n    return g(b, a, k)"}),
    ("swap_arguments", "def f():\n    a, b = g()\n    h(a, b)", {"def f():\n    a, b = g()\n    h(b, a)"}),
    ("skip_check", "if n < 1:\n    raise JaxddError(f'{n + 1}')", {"if False:\n    raise JaxddError(f'{n + 1}')"}),
    ("skip_check", "check_integer('n', n, least=2)", {"pass"}),
    ("skip_check", "class A:\n    n: int = field(3, at_least(1))", {"class A:\n    n: int = 3"}),
    ("skip_check", "require(self, ipc=(self.ipc >= 1, 'at least 1'), rate=positive(self.rate))",
     {"require(self, ipc=(True, 'at least 1'), rate=positive(self.rate))",
      "require(self, ipc=(self.ipc >= 1, 'at least 1'), rate=(True, \"\"))"}),
    ("skip_augmentation", "x = augment.apply(images, augment.draw(key, 1)), labels", {"x = images, labels"}),
    ("skip_augmentation", "x = jax.vmap(augment.apply)(images, drawn)", {"x = images"}),
    ("skip_augmentation", "x = f(augment.apply(*of_class))", {"x = f(of_class[0])"}),
    ("skip_augmentation", "x, y = cutmix(key, x, y, probability=p)", {"x, y = (x, y)"}),
    ("skip_decay", "x = optax.exponential_decay(rate, 10, 0.5)", {"x = optax.constant_schedule(rate)"}),
    ("skip_decay", "x = optax.chain(clip_by_running_norm(factor=2), y)", {"x = optax.chain(optax.identity(), y)"}),
    ("skip_decay", "x = optax.adamw(rate, weight_decay=5e-4)", {"x = optax.adamw(rate, weight_decay=0.0)"}),
    ("skip_decay", "x = bilevel(config, penalty=penalty)", {"x = bilevel(config, penalty=None)"}),
    ("skip_decay", "x = moving_average(old, new, 0.9, step)", {"x = new"}),
    ("plain_descent", "x = optax.adamw(rate, weight_decay=5e-4)", {"x = optax.adam(rate)"}),
    ("plain_descent", "x = optax.sgd(rate, momentum=0.9)", {"x = optax.sgd(rate)"}),
    ("plain_descent", "x = inner.sgd(config.momentum)", {"x = inner.sgd()"}),
    ("reuse_key", "def f(key):\n    a, b = jax.random.split(key)\n    return g(a), lambda: h(b)",
     {"def f(key):\n    a, b = jax.random.split(key)\n    return g(a), lambda: h(a)"}),
    ("reuse_key", "x = f(jax.random.fold_in(key, t))", {"x = f(key)"}),
    ("forget_stop_gradient", "x = 2 * jax.lax.stop_gradient(a)", {"x = 2 * a"}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "source", "expected"), MAKES, ids=[f"{m[0]}: {m[1][:40]}" for m in MAKES])
def test_what_an_operator_makes(made, operator, source, expected):
    assert made(operator, source) == expected


def test_every_operator_is_shown_and_says_what_it_does(parts):
    operators = parts("registry").OPERATORS
    assert {operator for operator, *_ in MAKES} == set(operators)
    assert all(operator.__doc__ for operator in operators.values())


LEAVES = [
    # That differ in nothing.
    ("drop_term", "x = c / 1.0, c - 0, c - 1e-9"),
    ("scale_constant", "x = 0.0 * a, floor(y + 1e-6)"),
    ("swap_operands", "x = directory / name"),
    ("swap_operands", "x = (a - b) ** 2, jnp.abs(a - b), jnp.square(a - b)"),
    ("swap_arguments", "def f(a: Array, b: Array):\n    return squared_error(a, b)"),
    ("swap_arguments", "x = jnp.where(good, same, same)"),
    ("swap_constants", "x = f(1, 1), y in (2, 4)"),
    ("off_by_one", "def f(spread: float):\n    return a < spread, b >= 0.5"),
    ("reuse_key", "a, b = text.split()\nx = f(b)"),
    ("reuse_key", "def f(key):\n    a, b = jax.random.split(key)\n    return lambda b: h(b)"),
    # That fail whatever the tests are like.
    ("drop_term", "x = 'a' + b, (1,) + c, [0] * n"),
    ("drop_term", "x = y.reshape(a * b, -1), jnp.zeros(a + 1), jnp.sum(z, a + 1)"),
    ("off_by_one", "x = y.shape[0], jax.random.split(key, 3), jnp.sum(y, axis=1), f(z)[0]"),
    ("swap_constants", "x = f(momentum=0.9, epochs=3)"),
    ("negate_condition", "while a < b:\n    a += 1"),
    ("drop_term", "while a < b:\n    a += c"),
    # The machine's.
    ("scale_default", "class A:\n    block: int = 16\n    side_by_side: int = 1\n    ipc: int = 1"),
    ("scale_constant", "_WINDOW_BYTES = 2**26\nx = f(block=4, rtol=0.1)"),
    ("drop_function", "_ENDLESS = 2**31 - 1"),
    ("negate_condition", "if target_block is None or len(x) <= target_block:\n    y = 1"),
    ("flip_flag", "x = f(progress=True, keepdims=True, strict=False)"),
    # What only says something.
    ("drop_term", "def f():\n    '''1 + 1, x.mean()'''\n    say(f'{a + b:.2f}')"),
    ("scale_default", "def f(x: Float[Array, '3 2'] = None) -> Vector[3]: ..."),
    ("drop_term", "if bad:\n    raise JaxddError(a + b)\nlogging.info(a + b)\nassert a + b"),
    ("off_by_one", "if n < 1:\n    raise JaxddError('n')"),
    ("off_by_one", "def problem(n) -> str | None:\n    if n < 1:\n        return 'n is small'"),
    ("scale_constant", "class A:\n    x: float = field(0.3, at_least(0.1, under=1))"),
    ("off_by_one", "class A:\n    def check(self):\n        last = self.n + 1"),
    ("off_by_one", "class A:\n    def __post_init__(self):\n        require(self, n=(self.n >= 1, '1'))"),
    ("scale_constant", "check_integer('n', n, least=2)"),
    ("drop_function", "__all__ = sorted(abs(x))"),
]


@pytest.mark.parametrize(("operator", "source"), LEAVES, ids=[f"{name}: {text[:40]}" for name, text in LEAVES])
def test_what_an_operator_leaves_alone(made, operator, source):
    assert made(operator, source) == set()


def test_the_rest_of_a_file_stays_byte_for_byte(parts):
    content = b'"""\xc3\x97 of \xe2\x88\x92"""\r\n\r\nx = "\xc3\xbc", (a  +  # first\n     b)\t\nlast = 1'
    everything = parts("operators").mutants_of("jaxdd/methods/toy.py", content)
    first, second = (mutant for mutant in everything if mutant.operator == "drop_term")
    head, tail = content.split(b"a  +  # first\n     b")
    assert {first.applied(content), second.applied(content)} == {head + b"a" + tail, head + b"b" + tail}
    assert (first.line, first.after) == (3, 'x = "ü", (a)\t') and first.before.startswith('x = "ü", (a  +  # first')


def test_batch_size_is_the_machines_but_for_training(made):
    source = "x = f(batch_size=64)"
    assert made("scale_constant", source, "jaxdd/inner/toy.py") == set()
    assert made("scale_constant", source, "jaxdd/evaluation/toy.py") == {"x = f(batch_size=128)"}


@pytest.mark.endurance
def test_a_draw_repeats_itself_and_goes_on(parts, everything):
    drawn = parts("draw").drawn
    hundred = drawn(everything, 100, seed=5)
    assert hundred == drawn(everything, 100, seed=5) and hundred[:30] == drawn(everything, 30, seed=5)
    assert len({mutant.id for mutant in hundred}) == 100
    assert {mutant.id for mutant in hundred} != {mutant.id for mutant in drawn(everything, 100, seed=6)}
    assert drawn(everything[:7], 100, seed=0) and len(drawn(everything[:7], 100, seed=0)) == 7


def test_rooms_and_operators_have_their_turns(parts, everything):
    hundred = parts("draw").drawn(everything, 100, seed=1)
    rooms = [mutant.room for mutant in hundred]
    assert {rooms.count(room) for room in parts("draw").ROOMS if room != "training"} <= {11, 12, 13}
    assert rooms.count("training") >= 5  # a small one, whose mutants run out
    counts = [[m.operator for m in hundred].count(name) for name in parts("registry").OPERATORS]
    assert min(counts) >= 3 and max(counts) <= 7


def test_identities_are_unique_and_mutants_of_this_tree_are_other_programs(parts, everything):
    assert len({mutant.id for mutant in everything}) == len(everything) > 2000
    check = parts("draw").check
    for mutant in parts("draw").drawn(everything, 60, seed=2):
        assert check(mutant, ROOT) != (ROOT / mutant.path).read_bytes()


def test_only_the_wanted_ones_are_drawn(parts, everything):
    wanted = parts("draw").wanted
    assert {mutant.path for mutant in wanted(everything, ["inner/p*"])} == {
        "jaxdd/inner/plans.py",
        "jaxdd/inner/pool.py",
    }
    assert {mutant.operator for mutant in wanted(everything, ["reuse_key"])} == {"reuse_key"}
    assert wanted(everything, [everything[3].id]) == [everything[3]] and wanted(everything, []) == everything


def test_the_listed_patches_apply(parts):
    listed = parts("listed").listed(ROOT)
    assert [mutant.id for mutant in listed] == list(parts("listed").LISTED)
    for mutant in listed:
        parts("draw").check(mutant, ROOT)


def test_a_listed_patch_that_does_not_apply_says_so(parts, tmp_path):
    with pytest.raises(
        parts("source").Unappliable, match=r"write them anew: dsa_network_without_augmentation \(jaxdd/"
    ):
        parts("listed").listed(tmp_path)


def test_what_was_judged_is_still_there_and_not_drawn(parts, everything):
    fits, judged = parts("judged").fits, parts("judged").JUDGED
    lost = [each for each in judged if not any(fits(each, mutant) for mutant in everything)]
    assert not lost, "judge them anew"
    left = parts("judged").unjudged(everything)
    assert len(everything) - len(judged) - 3 < len(left) <= len(everything) - len(judged)
    assert not any(fits(each, mutant) for each in judged for mutant in left)


def test_every_file_has_tests_of_its_own_room(parts, everything):
    tests_of = parts("suite").tests_of
    files = {mutant.path for mutant in everything}
    for path in files:
        found = tests_of(path, ROOT)
        assert found and all((ROOT / test).exists() for test in found)
    assert tests_of("jaxdd/inner/pool.py", ROOT)[0] == "tests/inner/test_pool.py"
    assert tests_of("jaxdd/data/samplers.py", ROOT) == ("tests/data/test_data_samplers.py",)
    # Without tests of its own: its room's.
    assert set(tests_of("jaxdd/inner/new.py", ROOT)) >= {"tests/inner/test_pool.py", "tests/inner/test_unroll.py"}


@pytest.fixture
def toy(tmp_path):
    """A tree with one tested function and one that nobody tests."""
    files = {
        "jaxdd/__init__.py": "",
        "jaxdd/methods/__init__.py": "",
        "jaxdd/methods/toy.py": "def tested(a, b):\n    return a + b\n\n\ndef untested(a, b):\n    return a * b\n",
        "tests/methods/test_toy.py": "from jaxdd.methods import toy\ndef test_sum(): assert toy.tested(1, 2) == 3\n",
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


@pytest.mark.endurance
def test_a_trial_kills_what_is_tested_and_nothing_else(parts, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(parts("command"), "listed", lambda root: [])
    report = tmp_path / "report.json"
    before = {path: path.read_bytes() for path in toy.rglob("*.py")}
    ids = [mutant.id for mutant in parts("draw").generated(toy) if mutant.after == "    return a"]
    flags = [f"--mutant={each}" for each in ids]
    assert len(ids) == 2 and parts("command").main([*flags, f"--json={report}"], toy) == 0
    found = json.loads(report.read_text())
    assert (found["mutants"], found["killed"]) == (2, 1) and found["how"] == {"tests": 1, "survived": 1}
    (survivor,) = found["survivors"]
    assert (survivor["file"], survivor["line"], survivor["operator"]) == ("jaxdd/methods/toy.py", 6, "drop_term")
    assert (survivor["before"], survivor["after"]) == ("    return a * b", "    return a")
    assert {row["by"] for row in found["all"]} == {"tests/methods/test_toy.py::test_sum", ""}
    assert {path: path.read_bytes() for path in toy.rglob("*.py")} == before


@pytest.mark.endurance
def test_tests_that_fail_without_any_change_end_it(parts, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts("command"), "listed", lambda root: [])
    (toy / "tests/methods/test_toy.py").write_text("import nothing_of_that_name\n")
    assert parts("command").main([f"--json={tmp_path / 'report.json'}"], toy) == 2
    assert "tests/methods/test_toy.py fails without any change (collection" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_what_is_done_stays_in_the_report_after_ctrl_c(parts, toy, tmp_path, monkeypatch, capsys):
    report, outcome = tmp_path / "report.json", parts("trial").Outcome

    def run(scratch, files, limit):
        text = (scratch.tree / "jaxdd/methods/toy.py").read_text()
        if "a * b" in text and "a + b" in text:
            return outcome("survived", "", 1.0, "", 0)
        if report.exists():
            raise KeyboardInterrupt
        return outcome("tests", "a::b", 1.0, "", 1)

    monkeypatch.setattr(parts("command"), "listed", lambda root: [])
    monkeypatch.setattr(parts("trial").Scratch, "run", run)
    assert parts("command").main([f"--json={report}"], toy) == 130
    found = json.loads(report.read_text())
    assert (found["mutants"], found["killed"], found["survivors"]) == (1, 1, []) and found["planned"] > 3
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "late", "text", "how", "by"),
    [
        (0, False, "1 passed", "survived", ""),
        (1, False, "..\nFAILED tests/a.py::b - assert\nFAILED tests/a.py::c", "tests", "tests/a.py::b"),
        (1, True, "", "timeout", "not done after 9 seconds"),
        (2, False, "ERROR tests/a.py\n1 error", "collection", "tests/a.py"),
        (4, False, "ImportError while loading conftest\nno module", "collection", "no module"),
        (-11, False, "Fatal Python error: Segmentation fault", "crash", "Fatal Python error: Segmentation fault"),
    ],
)
def test_how_tests_ended(parts, code, late, text, how, by):
    assert parts("trial")._judged(code, late, text, 9.0) == (how, by)


def test_the_list_shows_lines_and_runs_nothing(parts, command, capsys):
    assert command(["--list", "--sample=3", "--seed=1"]) == 0
    shown = capsys.readouterr().out
    assert (
        "dsa_network_without_augmentation  (DSA trains its network without augmentation)\n  - return augment" in shown
    )
    assert f"{len(parts('listed').LISTED) + 3} mutants: " in shown


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--mutant=no:such"], "no such mutant in this tree: no:such"),
        (["--only=no_such"], "no mutant of this tree is any of no_such"),
    ],
)
def test_what_does_not_exist_is_one_sentence(command, capsys, flags, sentence):
    assert command(flags) == 2
    assert sentence in capsys.readouterr().err
