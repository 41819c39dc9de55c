#include "base/address.h"

#include <string>

#include "base/errors.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(AddressTest, ReadsWhatItWrites) {
  for (const char* text :
       {"db.example.com:3306", "127.0.0.1:1", "h:65535", "[::1]:3307", "unix:/run/mysqld/mysqld.sock"}) {
    const auto address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << text << ": " << address.status();
    EXPECT_EQ(ToString(*address), text);
  }
}

TEST(AddressTest, Parts) {
  const auto tcp = ParseAddress("[fe80::1]:3306");
  ASSERT_TRUE(tcp.ok());
  EXPECT_EQ(tcp->host, "fe80::1");
  EXPECT_EQ(tcp->port, 3306);
  EXPECT_EQ(tcp->socket, "");
  const auto unix_socket = ParseAddress("unix:/a b:c");
  ASSERT_TRUE(unix_socket.ok());
  EXPECT_EQ(unix_socket->socket, "/a b:c");
  EXPECT_EQ(unix_socket->host, "");
}

TEST(AddressTest, RefusesWithReasonAndField) {
  const std::string long_path = "unix:/" + std::string(107, 'x');
  for (const std::string& text : {std::string(),
                                  std::string("localhost"),
                                  std::string(":3306"),
                                  std::string("h:"),
                                  std::string("h:0"),
                                  std::string("h:65536"),
                                  std::string("h:-1"),
                                  std::string("h:+1"),
                                  std::string("h:99999999999999999999"),
                                  std::string("h:33x"),
                                  std::string("::1:3306"),
                                  std::string("[::1:3306"),
                                  std::string("[]:3306"),
                                  std::string("a b:1"),
                                  std::string("h\0x:1", 5),
                                  std::string("unix:"),
                                  std::string("unix:relative"),
                                  std::string("unix:/a\0b", 9),
                                  long_path,
                                  std::string(256, 'h') + ":1"}) {
    const auto address = ParseAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(ReasonOf(address.status()), Reason::INVALID_RESOURCE) << text;
    EXPECT_EQ(MetadataOf(address.status())["field"], "address");
  }
  EXPECT_TRUE(ParseAddress("unix:/" + std::string(106, 'x')).ok());
}

}  // namespace
}  // namespace assent
