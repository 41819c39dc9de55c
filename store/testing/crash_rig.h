// What the crash tests of stores share: a process that writes and tells (crash_writer.cc), and the comparison of what
// it told with what is stored.
#ifndef ASSENT_STORE_TESTING_CRASH_RIG_H_
#define ASSENT_STORE_TESTING_CRASH_RIG_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "store/store.h"

namespace assent {

struct CrashWriter {
  pid_t pid;
  int output;  // A pipe.
};

// Starts crash_writer with these arguments. `environment`: one `NAME=value`, and the program with fault points, if not
// empty.
CrashWriter StartCrashWriter(const std::vector<std::string>& arguments, int round, const std::string& environment = "");

// What a writer told before it died: the highest revision of each gtrid, added to `told`.
void ReadTold(const std::string& output, std::map<std::string, int64_t>* told);

// Everything told is stored, and nothing else but at most the one transition that was on its way.
void CheckToldIsStored(Store* store, const std::map<std::string, int64_t>& told);

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_CRASH_RIG_H_
