"""cc_grpc_library: the C++ gRPC stubs and services of a proto_library (protobuf's own classes: cc_proto_library)."""

def _grpc_sources_impl(ctx):
    info = ctx.attr.proto[ProtoInfo]
    root = info.proto_source_root
    outputs = []
    arguments = []
    for source in info.direct_sources:
        path = source.path
        if path.startswith(root + "/"):
            path = path[len(root) + 1:]
        arguments.append(path)
        stem = path[:-len(".proto")]
        outputs.append(ctx.actions.declare_file(ctx.attr.out_dir + "/" + stem + ".grpc.pb.h"))
        outputs.append(ctx.actions.declare_file(ctx.attr.out_dir + "/" + stem + ".grpc.pb.cc"))
    base = outputs[0].path[:-len(arguments[0][:-len(".proto")] + ".grpc.pb.h")]
    ctx.actions.run(
        executable = ctx.executable._protoc,
        inputs = info.transitive_sources,
        tools = [ctx.executable._plugin],
        outputs = outputs,
        arguments = ["--plugin=protoc-gen-grpc=" + ctx.executable._plugin.path, "--grpc_out=" + base] +
                    ["-I" + path for path in info.transitive_proto_path.to_list()] + arguments,
        mnemonic = "GrpcCpp",
        progress_message = "Generating gRPC stubs for %s" % ctx.label,
    )
    return [DefaultInfo(files = depset(outputs))]

_grpc_sources = rule(
    implementation = _grpc_sources_impl,
    attrs = {
        "out_dir": attr.string(mandatory = True),
        "proto": attr.label(providers = [ProtoInfo], mandatory = True),
        "_plugin": attr.label(default = "@com_google_protobuf//:grpc_cpp_plugin", allow_single_file = True, executable = True, cfg = "host"),
        "_protoc": attr.label(default = "@com_google_protobuf//:protoc", allow_single_file = True, executable = True, cfg = "host"),
    },
)

def cc_grpc_library(name, proto, cc_proto, **kwargs):
    _grpc_sources(
        name = name + "_sources",
        out_dir = "_" + name,
        proto = proto,
    )
    native.cc_library(
        name = name,
        srcs = [name + "_sources"],
        hdrs = [name + "_sources"],
        includes = ["_" + name],
        deps = [cc_proto, "//third_party:grpc++"],
        **kwargs
    )
