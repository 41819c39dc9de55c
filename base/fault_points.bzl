"""Builds a program with its fault points (base/fault_point.h) compiled in, beside the product, which has none."""

def _flag_impl(_ctx):
    return []

# //base:fault_points. Nothing but the rule below turns it on.
fault_points_flag = rule(
    implementation = _flag_impl,
    build_setting = config.bool(flag = False),
)

def _turn_on_impl(_settings, _attr):
    return {"//base:fault_points": True}

_turn_on = transition(
    implementation = _turn_on_impl,
    inputs = [],
    outputs = ["//base:fault_points"],
)

def _with_fault_points_impl(ctx):
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(
        output = executable,
        target_file = ctx.attr.program[0][DefaultInfo].files_to_run.executable,
        is_executable = True,
    )

    # Not the program's own runfiles: among them it has the product's name, and would take the product's place.
    return [DefaultInfo(executable = executable, runfiles = ctx.runfiles(files = [executable]))]

# The program and everything it is made of, built once more with the flag on. For tests.
with_fault_points = rule(
    implementation = _with_fault_points_impl,
    attrs = {
        "program": attr.label(mandatory = True, executable = True, cfg = _turn_on),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
    executable = True,
)
