// Deferred work: what is worth doing once for many things that happen together, such as one write for many answers.
#ifndef ASSENT_BASE_DEFERRED_H_
#define ASSENT_BASE_DEFERRED_H_

#include <functional>

namespace assent {

// While one lives, Defer on this thread puts off; what was put off runs, in order, when the outermost one ends.
class DeferScope {
 public:
  DeferScope();
  ~DeferScope();
  DeferScope(const DeferScope&) = delete;
  DeferScope& operator=(const DeferScope&) = delete;
};

// Runs `fn` at the end of this thread's scope; now, if there is none.
void Defer(std::function<void()> fn);

}  // namespace assent

#endif  // ASSENT_BASE_DEFERRED_H_
