# Sourced by the scripts in tools/: where things are, and how Bazel is called.
# shellcheck shell=bash

assent_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
assent_cache=${XDG_CACHE_HOME:-$HOME/.cache}/assent
grpcurl_version=v1.8.9 # The newest that Debian 12's Go builds.

say() { echo "assent: $*" >&2; }
die() { echo "assent: $*" >&2; exit 1; }

# The path of grpcurl: $TEST_GRPCURL, the one that tools/setup built, or one in $PATH.
find_grpcurl() {
  if [ -n "${TEST_GRPCURL:-}" ]; then echo "$TEST_GRPCURL"
  elif [ -x "$assent_cache/bin/grpcurl" ]; then echo "$assent_cache/bin/grpcurl"
  else command -v grpcurl; fi
}

# Bazel's sandbox needs namespaces, which containers and chroots often refuse; without it builds are the same, only less
# strictly checked.
bazel_strategy() {
  if unshare --user --mount --map-root-user true 2>/dev/null; then echo sandboxed,local; else echo local; fi
}

# bazel_do COMMAND ARGUMENTS...: an optimised build of this checkout.
bazel_do() {
  local command=$1
  shift
  (cd "$assent_root" && bazel "$command" -c opt --spawn_strategy="$(bazel_strategy)" --noshow_loading_progress "$@")
}

# The same without its chatter; what it said comes only if it failed.
bazel_quietly() {
  local log code=0
  log=$(mktemp)
  bazel_do "$@" --noshow_progress --curses=no >"$log" 2>&1 || code=$?
  [ "$code" = 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$code"
}

# Bazel keeps a server for each checkout. Who must leave nothing running stops it, unless it was there before.
bazel_was_running() {
  local base pid
  base=$HOME/.cache/bazel/_bazel_$(id -un)/$(cd "$assent_root" && printf %s "$(pwd -P)" | md5sum | cut -d' ' -f1)
  pid=$(cat "$base/server/server.pid.txt" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}
bazel_stop() { (cd "$assent_root" && bazel shutdown >/dev/null 2>&1) || true; }

# The folder of what was built.
bazel_bin() { (cd "$assent_root" && bazel info -c opt bazel-bin 2>/dev/null); }

# The bank's workers in other languages (tests/bank/bank_worker.cc says what they do): each prints the path of its program.
python_bank_worker() {
  local sdk=$assent_root/participant_sdk/python venv program=$assent_cache/bank-worker-python
  venv=$("$sdk/environment")
  printf '#!/bin/sh\nPYTHONPATH=%q exec %q %q "$@"\n' "$sdk" "$venv/bin/python" "$sdk/examples/bank_worker.py" >"$program"
  chmod +x "$program"
  echo "$program"
}
go_bank_worker() {
  (cd "$assent_root/participant_sdk/go" && GOTOOLCHAIN=local go build -o "$assent_cache/bin/bank-worker-go" ./examples/bankworker >&2)
  echo "$assent_cache/bin/bank-worker-go"
}

# run_built PROGRAM ARGUMENTS...: installs what is missing, builds the program (tools/NAME/NAME) and becomes it. Every
# signal reaches it then, and it cleans up after itself.
run_built() {
  local name=$1 stop_bazel=:
  shift
  "$assent_root/tools/setup"
  bazel_was_running || stop_bazel=bazel_stop
  # shellcheck disable=SC2064
  trap "$stop_bazel" EXIT
  say "building (a few minutes the first time)"
  bazel_quietly build //coordinator:assentd //tools/assentctl "//tools/$name"
  local program
  program=$(bazel_bin)/tools/$name/$name
  $stop_bazel
  exec "$program" "$@"
}
