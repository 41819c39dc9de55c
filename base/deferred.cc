#include "base/deferred.h"

#include <utility>
#include <vector>

namespace assent {
namespace {

thread_local int depth = 0;
thread_local std::vector<std::function<void()>> deferred;

}  // namespace

DeferScope::DeferScope() { ++depth; }

DeferScope::~DeferScope() {
  // What runs now may defer more: that joins the end of the list.
  if (depth == 1) {
    for (size_t i = 0; i < deferred.size(); ++i) {
      const std::function<void()> fn = std::move(deferred[i]);
      fn();
    }
    deferred.clear();
  }
  --depth;
}

void Defer(std::function<void()> fn) {
  if (depth == 0) {
    fn();
  } else {
    deferred.push_back(std::move(fn));
  }
}

}  // namespace assent
