"""Tests that run on both stores."""

def cc_test_on_both_stores(name, srcs, deps, **kwargs):
    """The test `name` has its coordinators' stores in SQLite, and `name`_on_mariadb in a MariaDB server.

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
        name = name + "_on_mariadb",
        env = {"TEST_STORE": "mariadb"},
        deps = [":" + name + "_cases"],
        **kwargs
    )
