"""What a program for an accelerator does, read from its text; such programs, where their compilers are installed."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from accelerators.program import facts

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
TEXT = """
HloModule jit_chunk, is_scheduled=true

%fused_dot (a: bf16[4,8], b: bf16[8,2]) -> f32[4,2] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = bf16[8,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}
}

%inner_body (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %p = (s32[], f32[4,2]{1,0}) parameter(0)
  %x = f32[4,2]{1,0} get-tuple-element(%p), index=1
  %y = bf16[3,3,2,2]{3,2,1,0} constant({...})
  %conv = (f32[4,2]{1,0}, u8[0]{0}) custom-call(%x, %y), custom_call_target="__cudnn$convForward", backend={"a":{}}
  %z = f32[4,2]{1,0} get-tuple-element(%conv), index=0
  ROOT %t = (s32[], f32[4,2]{1,0}) tuple(%z)
}

%inner_condition (p.1: (s32[], f32[4,2])) -> pred[] {
  %p.1 = (s32[], f32[4,2]{1,0}) parameter(0)
  ROOT %less = pred[] compare(%p.1, %p.1), direction=LT
}

%branch (q: f32[4,2]) -> f32[4,2] {
  %q = f32[4,2]{1,0} parameter(0)
  ROOT %gemm = f32[4,2]{1,0} custom-call(%q, %q), custom_call_target="__cublas$gemm"
}

%outer_body (p.2: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %p.2 = (s32[], f32[4,2]{1,0}) parameter(0)
  %c = bf16[4,8]{1,0} constant({...})
  %fusion.1 = f32[4,2]{1,0} fusion(%c, %c), kind=kOutput, calls=%fused_dot
  %loop = (s32[], f32[4,2]{1,0}) while(%p.2), condition=%inner_condition, body=%inner_body, \
backend_config={"known_trip_count":{"n":"5"}}
  %endless = (s32[], f32[4,2]{1,0}) while(%p.2), condition=%inner_condition, body=%inner_body
  %choice = f32[4,2]{1,0} conditional(%p.2, %fusion.1), branch_computations={%branch, %branch}
  ROOT %t.1 = (s32[], f32[4,2]{1,0}) tuple(%choice)
}

%outer_condition (p.3: (s32[], f32[4,2])) -> pred[] {
  %p.3 = (s32[], f32[4,2]{1,0}) parameter(0)
  ROOT %lt = pred[] fusion(%p.3), kind=kLoop, calls=%fused_dot
}

ENTRY %main (s: f32[4,2], /*index=1*/n: s32[]) -> (s32[], f32[4,2]) {
  %s = f32[4,2]{1,0} parameter(0)
  %copied = f32[4,2]{1,0} copy(%s)
  ROOT %while = (s32[], f32[4,2]{1,0}, /*index=2*/pred[]) while(%copied), condition=%outer_condition, body=%outer_body
}
"""


def test_an_update_is_the_outermost_loops_body():
    """A fusion and its condition's; six times a convolution and a comparison, once of unknown trips; two branches."""
    found = facts(TEXT)
    assert found["launches"] == 1 + 1 + 6 * 2 + 2
    assert found["unknown_loops"] == 1
    assert found["library_calls"] == {"__cudnn$convForward": 6, "__cublas$gemm": 2}
    assert found["convolution_types"] == {"f32, bf16 -> f32": 6}
    assert found["product_types"] == {"bf16, bf16 -> f32": 2, "f32, f32 -> f32": 2}
    assert not found["callbacks"] and not found["float64"]


def test_callbacks_and_float64_are_seen():
    callback = 'custom-call(%q, %q), custom_call_target="xla_ffi_python_gpu_callback"'
    found = facts(TEXT.replace('custom-call(%q, %q), custom_call_target="__cublas$gemm"', callback))
    assert found["callbacks"] == 2
    assert facts(TEXT.replace("%q = f32[4,2]", "%q = f64[4,2]"))["float64"]


@pytest.mark.endurance
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no compilers for accelerators: jaxdd[aot]")
def test_the_smallest_examples_compile_for_a_gpu_and_a_tpu(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, SCRIPTS / "accelerators.py", "--smoke", "--methods", "kip", "--json", tmp_path / "rows"]
    subprocess.run(command, env=environment, check=True, timeout=300)
    rows = json.loads((tmp_path / "rows").read_text())["rows"]
    assert [(row["platform"], row["compiles"]) for row in rows] == [("gpu", True), ("tpu", True)]
    assert all(row["launches"] > 10 and row["peak_bytes"] > 0 and not row["callbacks"] for row in rows)
