// For tests: what a connection pool does when it takes a connection back.
#ifndef ASSENT_RESOURCE_MANAGER_RESET_CONNECTION_H_
#define ASSENT_RESOURCE_MANAGER_RESET_CONNECTION_H_

#include <mariadb/mysql.h>
#include <sys/socket.h>

#include <string>

#include "gtest/gtest.h"

namespace assent {

enum class ResetBy {
  kResetConnection,   // mysql_reset_connection
  kChangeUser,        // mysql_change_user
  kBehindTheLibrary,  // As a proxy would: Connector/C notices nothing.
};
constexpr ResetBy kAllResets[] = {ResetBy::kResetConnection, ResetBy::kChangeUser, ResetBy::kBehindTheLibrary};

inline std::string ToString(ResetBy how) {
  switch (how) {
    case ResetBy::kResetConnection: return "ResetConnection";
    case ResetBy::kChangeUser: return "ChangeUser";
    case ResetBy::kBehindTheLibrary: return "BehindTheLibrary";
  }
  return "?";
}

// COM_RESET_CONNECTION, written to the socket and its answer read from there.
inline void ResetBehindTheLibrary(MYSQL* handle) {
  const int fd = static_cast<int>(mysql_get_socket(handle));
  const unsigned char command[] = {1, 0, 0, 0, 0x1f};
  ASSERT_EQ(send(fd, command, sizeof(command), 0), static_cast<ssize_t>(sizeof(command)));
  unsigned char header[4];
  ASSERT_EQ(recv(fd, header, sizeof(header), MSG_WAITALL), static_cast<ssize_t>(sizeof(header)));
  std::string answer(static_cast<size_t>(header[0] | header[1] << 8 | header[2] << 16), '\xff');
  ASSERT_EQ(recv(fd, &answer[0], answer.size(), MSG_WAITALL), static_cast<ssize_t>(answer.size()));
  ASSERT_EQ(answer[0], '\0') << "not OK";
}

// The connection must be idle and not encrypted.
inline void Reset(ResetBy how, MYSQL* handle, const std::string& user, const std::string& password) {
  switch (how) {
    case ResetBy::kResetConnection: ASSERT_EQ(mysql_reset_connection(handle), 0) << mysql_error(handle); break;
    case ResetBy::kChangeUser:
      ASSERT_EQ(mysql_change_user(handle, user.c_str(), password.c_str(), nullptr), 0) << mysql_error(handle);
      break;
    case ResetBy::kBehindTheLibrary: ResetBehindTheLibrary(handle); break;
  }
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_RESET_CONNECTION_H_
