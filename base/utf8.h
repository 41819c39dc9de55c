// UTF-8: what protobuf's strings must be. A message that holds anything else cannot be parsed by whoever receives it.
#ifndef ASSENT_BASE_UTF8_H_
#define ASSENT_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace assent {

// The size in bytes of the character at the front of `text` (not empty), and its code point; 0 if it is not UTF-8
// (overlong, a surrogate, cut off).
size_t Utf8Character(absl::string_view text, uint32_t* code);

bool IsUtf8(absl::string_view text);

// As much of the text as fits into `max_bytes` without cutting a character in two; each byte that is not UTF-8 becomes
// a '?'. For texts that others wrote and that are only for people.
std::string ToUtf8(absl::string_view text, size_t max_bytes);

}  // namespace assent

#endif  // ASSENT_BASE_UTF8_H_
