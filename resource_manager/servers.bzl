"""Tests that run on MariaDB and on MySQL."""

# The suffix of the target's name, and the server (test_server.h).
_SERVERS = {
    "": "mariadb",
    "_on_mysql": "mysql",
    "_on_mysql_held": "mysql_held",
}

def cc_test_on_both_servers(name, srcs, deps, suffixes = _SERVERS.keys(), **kwargs):
    """The test `name` runs on MariaDB servers.

    `name`_on_mysql runs on MySQL's, and `name`_on_mysql_held on such where sessions hold their prepared branches. Both
    skip themselves without ASSENT_TEST_MYSQLD.

    Args:
      name: of the first of them.
      srcs: compiled once.
      deps: of all.
      suffixes: which of them, by the end of their names.
      **kwargs: what cc_test takes, for all.
    """
    native.cc_library(
        name = name + "_cases",
        testonly = True,
        srcs = srcs,
        deps = deps,
        alwayslink = True,
    )
    for suffix in suffixes:
        native.cc_test(
            name = name + suffix,
            env = {"TEST_SERVER": _SERVERS[suffix]},
            deps = [":" + name + "_cases"],
            **kwargs
        )
