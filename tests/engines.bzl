"""Tests with two databases, on every pair of engines that matters."""

# The suffix of the target's name, and the engines of the two servers. MySQL's skip themselves without a server.
_PAIRS = {
    "": "mariadb,mariadb",
    "_on_mariadb_and_postgresql": "mariadb,postgresql",
    "_on_postgresql": "postgresql,postgresql",
    "_on_mysql": "mysql,mysql",
    "_on_mysql_and_postgresql": "mysql,postgresql",
}

# All but two MariaDB servers.
OTHER_PAIRS = [suffix for suffix in _PAIRS.keys() if suffix]

def cc_test_on_engines(name, srcs, deps, env = {}, suffixes = _PAIRS.keys(), **kwargs):
    """The test `name` runs on two MariaDB servers, `name`_on_… on those.

    Args:
      name: of the first of them.
      srcs: compiled once.
      deps: of all.
      env: of all; TEST_ENGINES is added.
      suffixes: which of the pairs, by the suffixes above.
      **kwargs: what cc_test takes, for all.
    """
    native.cc_library(
        name = name + "_on_engines",
        testonly = True,
        srcs = srcs,
        deps = deps,
        alwayslink = True,
    )
    for suffix in suffixes:
        native.cc_test(
            name = name + suffix,
            env = dict(env, TEST_ENGINES = _PAIRS[suffix]),
            deps = [":" + name + "_on_engines"],
            **kwargs
        )
