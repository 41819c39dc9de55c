// Prints the protocol's table for docs/protocol.md.
#include <iostream>

#include "coordinator/protocol.h"

int main() {
  std::cout << assent::ProtocolTableMarkdown();
  return 0;
}
