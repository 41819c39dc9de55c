// `assentctl store`: moving a store, comparing it with a file, and copying it. Unlike all other commands these open the
// store themselves and ask no coordinator.
#ifndef ASSENT_TOOLS_ASSENTCTL_STORE_VERBS_H_
#define ASSENT_TOOLS_ASSENTCTL_STORE_VERBS_H_

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace assent {

// Declares the command and its verbs. The one that is given sets *run, which answers the exit code. `footer` stands
// below the help of each.
void DeclareStore(CLI::App* app, const std::string& footer, std::function<int()>* run);

// Options of these verbs that take a file.
std::vector<std::string> StoreFileOptions();

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_STORE_VERBS_H_
