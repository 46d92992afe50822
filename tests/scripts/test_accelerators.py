"""What a program for an accelerator does, read from its text; such programs, where their compilers are installed."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from accelerators.program import facts, operations
from accelerators.thunks import host_launches

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


def test_operations_of_products_and_convolutions_count_with_their_loops():
    """A product of 4 x 8 by 8 x 2, and that of the condition; a convolution of one pixel six times."""
    text = TEXT.replace("%y = bf16[3,3,2,2]{3,2,1,0} constant({...})", "%y = f32[1,1,2,2]{3,2,1,0} constant({...})")
    call = '(f32[4,2]{1,0}, u8[0]{0}) custom-call(%x, %y), custom_call_target="__cudnn$convForward", backend={"a":{}}'
    assert call in text
    text = text.replace(
        call, "f32[1,2,2,2]{3,2,1,0} convolution(%x, %y), window={size=1x1}, dim_labels=b01f_01io->b01f"
    )
    assert operations(text) == 2 * (2 * 4 * 2 * 8) + 6 * (2 * 8 * 2)


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


def test_the_host_starts_a_graph_at_once(tmp_path):
    """A graph, five times a convolution and a graph, of unknown trips a kernel and the question, a branch, a copy."""
    lines = """
000: kCommandBuffer [source | next]
    001: kCopy [source | sink] kCopy
002: kWhile [prev | sink]
condition:
    003: kCustomKernel [source | sink] less
  body:
    000: kCommandBuffer [source | next]
        004: kCustomKernel [source | sink] one
        005: kWhile [source | sink]
condition:
            006: kCustomKernel [source | sink] inner less
          body:
            007: kCublasLtMatmul [source | sink]
    008: kWhile [prev | next]
condition:
        009: kCustomKernel [source | sink] less
      body:
        010: kConvolution [source | next]
        000: kCommandBuffer [prev | sink]
            011: kCustomKernel [source | sink] two
            012: kCustomKernel [source | sink] three
    013: kWhile [prev | next]
condition:
        014: kCustomKernel [source | sink] less
      body:
        015: kCustomKernel [source | sink] four
    016: kConditional [prev | next]
      branch_0:
        017: kConvolution [source | sink]
    018: kDynamicSliceFusion [prev | sink]
        019: kCopy [source | sink] kCopy
""".strip("\n")
    told = 'thunk_info {{\n profile_annotation: "{}"\n thunk_id: {}\n }}\n'
    (tmp_path / "module_0001.jit_chunk.thunk_sequence_after_thunk_passes.txt").write_text(lines)
    (tmp_path / "module_0001.jit_chunk.thunk_metadata.txt").write_text(
        told.format("loop", 8) + told.format("endless", 13)
    )
    known = {"loop": 5, "endless": None}
    assert host_launches(tmp_path, known) == 1 + 1 + 5 * 2 + 2 + 1 + 1
    assert host_launches(tmp_path / "nothing", known) is None
