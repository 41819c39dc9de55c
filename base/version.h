// The version of everything in this repository.
#ifndef ASSENT_BASE_VERSION_H_
#define ASSENT_BASE_VERSION_H_

namespace assent {

constexpr char kVersion[] = "0.1.0";

}  // namespace assent

#endif  // ASSENT_BASE_VERSION_H_
