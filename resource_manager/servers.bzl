"""Tests that run on MariaDB and on MySQL."""

def cc_test_on_both_servers(name, srcs, deps, **kwargs):
    """The test `name` runs on MariaDB servers, and `name`_on_mysql on MySQL's (skipped without ASSENT_TEST_MYSQLD).

    Args:
      name: of the first of the two.
      srcs: compiled once.
      deps: of both.
      **kwargs: what cc_test takes, for both.
    """
    native.cc_library(
        name = name + "_cases",
        testonly = True,
        srcs = srcs,
        deps = deps,
        alwayslink = True,
    )
    native.cc_test(
        name = name,
        deps = [":" + name + "_cases"],
        **kwargs
    )
    native.cc_test(
        name = name + "_on_mysql",
        env = {"TEST_SERVER": "mysql"},
        deps = [":" + name + "_cases"],
        **kwargs
    )
