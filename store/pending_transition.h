// What passes from a store's queue to what writes it.
#ifndef ASSENT_STORE_PENDING_TRANSITION_H_
#define ASSENT_STORE_PENDING_TRANSITION_H_

#include <string>

#include "store/store.h"

namespace assent {

// A transition on its way to disk.
struct PendingTransition {
  Transition transition;
  std::string record;  // transition.next, serialised on the submitting thread: the writer's time is what is scarce.
};

}  // namespace assent

#endif  // ASSENT_STORE_PENDING_TRANSITION_H_
