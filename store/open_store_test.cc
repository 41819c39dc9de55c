#include "store/open_store.h"

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<StorePlace> Parse(const std::string& text) {
  StoreSettings settings;
  settings.store = text;
  return ParseStore(settings);
}

TEST(OpenStoreTest, Places) {
  EXPECT_EQ(Parse("a/b.db")->sqlite_path, "a/b.db");
  EXPECT_EQ(Parse("sqlite:/x")->sqlite_path, "/x");
  auto place = Parse("mariadb://me@db1.example/assent");
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->mariadb->user, "me");
  EXPECT_EQ(place->mariadb->address.host, "db1.example");
  EXPECT_EQ(place->mariadb->address.port, 3306);
  EXPECT_EQ(place->mariadb->database, "assent");
  EXPECT_EQ(Parse("mariadb://me@[::1]:4000/d")->mariadb->address.port, 4000);
  EXPECT_EQ(Parse("mariadb://me@[::1]/d")->mariadb->address.port, 3306);
  EXPECT_EQ(Parse("mariadb://m@e@h:1/d")->mariadb->user, "m@e");
  EXPECT_EQ(Parse("mariadb://me@/d?socket=/run/s")->mariadb->address.socket, "/run/s");
}

TEST(OpenStoreTest, CertificatesWithoutTlsAreNotIgnored) {
  for (std::string ConnectTls::*const file : {&ConnectTls::ca, &ConnectTls::cert, &ConnectTls::key}) {
    StoreSettings settings;
    settings.store = "mariadb://me@host/d";
    settings.tls.*file = "/x.pem";
    const absl::Status status = ParseStore(settings).status();
    EXPECT_EQ(ReasonOf(status), Reason::INVALID_FIELD);
    EXPECT_THAT(std::string(status.message()), HasSubstr("set store-tls=on"));
    settings.tls_mode = "on";
    EXPECT_TRUE(ParseStore(settings).ok());
    settings.tls_mode = "off";
    settings.store = "a.db";
    EXPECT_TRUE(ParseStore(settings).ok()) << "a file has no transport";
  }
}

TEST(OpenStoreTest, WhatIsWrongIsSaid) {
  const std::pair<const char*, const char*> kBad[] = {
      {"", "must not be empty"},
      {"sqlite:", "must not be empty"},
      {"postgres://x/y", "'postgres://…' is not supported"},
      {"mariadb://", "lacks a user or a database"},
      {"mariadb://host/d", "lacks a user or a database"},
      {"mariadb://@host/d", "lacks a user or a database"},
      {"mariadb://me@host", "lacks a user or a database"},
      {"mariadb://me@host/", "names a database"},
      {"mariadb://me@host/a`b", "names a database"},
      {"mariadb://me:secret@host/d", "must not hold a password"},
      {"mariadb://me@host/d?ssl=1", "unknown option"},
      {"mariadb://me@host/d?socket=/s", "a host and a socket"},
      {"mariadb://me@host:99999/d", "port"},
      {"mariadb://me@/d", "host"},
  };
  for (const auto& bad : kBad) {
    const absl::Status status = Parse(bad.first).status();
    EXPECT_EQ(ReasonOf(status), Reason::INVALID_FIELD) << bad.first;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.second)) << bad.first;
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace assent
