"""Debian's protobuf and gRPC plugin as the repository that Bazel's proto rules ask for by name."""

_WELL_KNOWN = {
    "any": [],
    "api": ["source_context", "type"],
    "descriptor": [],
    "duration": [],
    "empty": [],
    "field_mask": [],
    "source_context": [],
    "struct": [],
    "timestamp": [],
    "type": ["any", "source_context"],
    "wrappers": [],
}

def _system_protobuf_impl(ctx):
    ctx.symlink("/usr/bin/protoc", "protoc")
    ctx.symlink("/usr/bin/grpc_cpp_plugin", "grpc_cpp_plugin")

    # The .proto files alone: were the headers here too, includes with quotes would find them here, undeclared.
    for name in _WELL_KNOWN:
        ctx.symlink("/usr/include/google/protobuf/%s.proto" % name, "google/protobuf/%s.proto" % name)
    build = [
        "package(default_visibility = [\"//visibility:public\"])",
        "exports_files([\"protoc\", \"grpc_cpp_plugin\"])",
        "cc_library(name = \"protobuf\", linkopts = [\"-lprotobuf\"])",
        "proto_lang_toolchain(name = \"cc_toolchain\", command_line = \"--cpp_out=$(OUT)\", runtime = \":protobuf\",",
        "    blacklisted_protos = [%s])" % ", ".join(["\":%s_proto\"" % n for n in _WELL_KNOWN]),
    ]
    for name, deps in _WELL_KNOWN.items():
        build.append("proto_library(name = \"%s_proto\", srcs = [\"google/protobuf/%s.proto\"], strip_import_prefix = \"/\", deps = [%s])" %
                     (name, name, ", ".join(["\":%s_proto\"" % d for d in deps])))
    ctx.file("BUILD.bazel", "\n".join(build) + "\n")
    ctx.file("WORKSPACE", "workspace(name = \"com_google_protobuf\")\n")

system_protobuf = repository_rule(implementation = _system_protobuf_impl, local = True)
