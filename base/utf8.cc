#include "base/utf8.h"

namespace assent {

size_t Utf8Character(absl::string_view text, uint32_t* code) {
  const auto byte = [&text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    *code = first;
    return 1;
  }
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  *code = first & (0x7f >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    *code = *code << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = *code < (size == 2 ? 0x80u : size == 3 ? 0x800u : 0x10000u);
  const bool surrogate = *code >= 0xd800 && *code <= 0xdfff;
  return overlong || surrogate || *code > 0x10ffff ? 0 : size;
}

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t size = Utf8Character(text, &code);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::string ToUtf8(absl::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t size = Utf8Character(text, &code);
    const absl::string_view character = size == 0 ? absl::string_view("?") : text.substr(0, size);
    if (out.size() + character.size() > max_bytes) break;
    out.append(character.data(), character.size());
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return out;
}

}  // namespace assent
